// For tests: weights with which every layer matters.
#pragma once

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "ringweave/models/model.h"

namespace ringweave::models::test {

/// Makes small initial weights larger.
inline void enlarge(const Model& model) {
  const at::NoGradGuard no_gradients;
  std::int64_t seed = 100;
  for (const Parameter& parameter : model.parameters()) {
    at::Tensor value = parameter.value;
    auto generator =
        at::detail::createCPUGenerator(static_cast<std::uint64_t>(seed++));
    if (value.dim() == 1) {
      value.add_(at::randn(value.sizes(), generator, at::kDouble) * 0.3);
    } else {
      value.mul_(0.4 / value.pow(2).mean().sqrt());
    }
  }
}

}  // namespace ringweave::models::test
