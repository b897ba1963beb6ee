#include "ringweave/models/swiglu.h"

#include <ATen/ATen.h>

#include "ringweave/models/mixer.h"

namespace ringweave::models {

Swiglu make_swiglu(const ModelConfig& config, const std::string& prefix,
                   ParameterMaker& maker) {
  Swiglu weights;
  weights.gate = maker.normal(prefix + "gate_proj.weight",
                              {config.intermediate, config.hidden}, kInitStd);
  weights.up = maker.normal(prefix + "up_proj.weight",
                            {config.intermediate, config.hidden}, kInitStd);
  weights.down =
      maker.normal(prefix + "down_proj.weight",
                   {config.hidden, config.intermediate}, residual_std(config));
  return weights;
}

at::Tensor swiglu(const at::Tensor& x, const Swiglu& weights) {
  if (!at::GradMode::is_enabled()) {
    // Nobody wants what lies between: two of the large tensors do, not four.
    at::Tensor inner = project(x, weights.gate);
    at::silu_(inner).mul_(project(x, weights.up));
    return project(inner, weights.down);
  }
  return project(at::silu(project(x, weights.gate)) * project(x, weights.up),
                 weights.down);
}

}  // namespace ringweave::models
