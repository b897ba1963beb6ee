// For tests: a model that is computed quickly, and weights with which every
// layer matters.
#pragma once

#include <string>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "ringweave/models/model.h"

namespace ringweave::models::test {

/// Four layers, two query heads to a key head.
inline ModelConfig tiny(const std::string& kind,
                        const std::string& pattern = "LLLN") {
  ModelConfig config;
  config.vocab_size = 11;
  config.hidden = 12;
  config.intermediate = 10;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 6;
  config.pattern = pattern;
  config.linear = config::LinearConfig(kind);
  if (kind == "gla") config.linear.set("gate_rank", 3);
  if (kind == "based" || kind == "rebased") config.linear.set("feature_dim", 4);
  if (kind == "mamba2") config.linear.set("state_dim", 5);
  return config;
}

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
