// Tensors in texts.
#pragma once

#include <string>

#include <ATen/core/Tensor.h>
#include <c10/util/ArrayRef.h>
#include <fmt/ranges.h>

#include "ringweave/base/hash.h"

namespace ringweave::tensor {

/// "(2, 0, 7)".
inline std::string shape_text(c10::IntArrayRef shape) {
  return fmt::format("({})", fmt::join(shape.begin(), shape.end(), ", "));
}

/// Of values that must have equal bits on all ranks: "(2, 7) of hash 00…".
inline std::string bits_text(const at::Tensor& x) {
  const at::Tensor values = x.detach().cpu().contiguous();
  return fmt::format(
      "{} of hash {:016x}", shape_text(values.sizes()),
      fnv1a_words({static_cast<const char*>(values.const_data_ptr()),
                   values.nbytes()}));
}

}  // namespace ringweave::tensor
