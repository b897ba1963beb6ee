// Llama's feed-forward block: down(silu(gate(x)) ⊙ up(x)).
#pragma once

#include <string>

#include <ATen/core/Tensor.h>

#include "ringweave/config/model_config.h"
#include "ringweave/models/parameters.h"

namespace ringweave::models {

using config::ModelConfig;

struct Swiglu {
  at::Tensor gate;  ///< (intermediate, hidden)
  at::Tensor up;    ///< (intermediate, hidden)
  at::Tensor down;  ///< (hidden, intermediate)
};

Swiglu make_swiglu(const ModelConfig& config, const std::string& prefix,
                   ParameterMaker& maker);

/// x: (batch, tokens, hidden) → the same shape.
at::Tensor swiglu(const at::Tensor& x, const Swiglu& weights);

}  // namespace ringweave::models
