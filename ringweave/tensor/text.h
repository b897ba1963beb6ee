// Tensors in the texts of errors.
#pragma once

#include <string>

#include <c10/util/ArrayRef.h>
#include <fmt/ranges.h>

namespace ringweave::tensor {

/// "(2, 0, 7)".
inline std::string shape_text(c10::IntArrayRef shape) {
  return fmt::format("({})", fmt::join(shape.begin(), shape.end(), ", "));
}

}  // namespace ringweave::tensor
