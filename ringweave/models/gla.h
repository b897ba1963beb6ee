// Gated linear attention: a learned decay per token, head and key dimension.
#pragma once

#include "ringweave/models/mixer.h"

namespace ringweave::models {

/// g = logsigmoid(W₁ W₀ x + b) / gate_divisor with a low rank between W₀ and W₁
/// (self_attn.gk_proj.{0,1}); each head's output is RMS-normed
/// (self_attn.g_norm.weight) and multiplied by silu(W x) (self_attn.g_proj).
class Gla final : public Mixer {
 public:
  Gla(const ModelConfig& config, const std::string& prefix,
      ParameterMaker& maker);
  at::Tensor forward(const at::Tensor& x,
                     const Context& context) const override;

 private:
  at::Tensor gates(const at::Tensor& x) const;

  ModelConfig config_;
  Projections weights_;
  at::Tensor gate_in_;      ///< (gate_rank, hidden)
  at::Tensor gate_out_;     ///< (kv_heads · head_dim, gate_rank)
  at::Tensor gate_bias_;    ///< (kv_heads · head_dim)
  at::Tensor output_gate_;  ///< (heads · head_dim, hidden)
  at::Tensor norm_;         ///< (head_dim)
};

}  // namespace ringweave::models
