// The numbers of flat tensors, as communicators take them.
#pragma once

#include <cstddef>
#include <span>

#include <ATen/core/Tensor.h>

namespace ringweave::train {

/// Calls `use` with the numbers of a contiguous fp32 or fp64 tensor.
template <typename Use>
void with_span(const at::Tensor& flat, const Use& use) {
  const auto size = static_cast<std::size_t>(flat.numel());
  if (flat.scalar_type() == at::kDouble) {
    use(std::span(flat.mutable_data_ptr<double>(), size));
  } else {
    use(std::span(flat.mutable_data_ptr<float>(), size));
  }
}

}  // namespace ringweave::train
