// Gated linear attention: a learned decay per token, head and key dimension.
#include <cmath>

#include <ATen/ATen.h>

#include "ringweave/models/mixer.h"
#include "ringweave/models/qkv.h"
#include "ringweave/models/rms_norm.h"

namespace ringweave::models {
namespace {

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
  LinearProjections weights_;
  at::Tensor gate_in_;      ///< (gate_rank, hidden)
  at::Tensor gate_out_;     ///< (kv_heads · head_dim, gate_rank)
  at::Tensor gate_bias_;    ///< (kv_heads · head_dim)
  at::Tensor output_gate_;  ///< (heads · head_dim, hidden)
  at::Tensor norm_;         ///< (head_dim)
};

Gla::Gla(const ModelConfig& config, const std::string& prefix,
         ParameterMaker& maker)
    : config_(config),
      weights_(make_linear_projections(config, prefix, maker)) {
  const std::int64_t key_size = config.kv_heads * config.head_dim;
  const std::int64_t gate_rank = config.linear.integer("gate_rank");
  gate_in_ = maker.normal(prefix + "gk_proj.0.weight",
                          {gate_rank, config.hidden}, kInitStd);
  gate_out_ = maker.normal(prefix + "gk_proj.1.weight", {key_size, gate_rank},
                           kInitStd);
  gate_bias_ = maker.filled(prefix + "gk_proj.1.bias", {key_size}, 0.0);
  output_gate_ =
      maker.normal(prefix + "g_proj.weight",
                   {config.heads * config.head_dim, config.hidden}, kInitStd);
  norm_ = maker.filled(prefix + "g_norm.weight", {config.head_dim}, 1.0);
}

at::Tensor Gla::forward(const at::Tensor& x, const Context& context) const {
  const std::int64_t head_dim = config_.head_dim;
  const auto [q, k, v] = project_qkv(x, weights_, config_, context);
  const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
  const at::Tensor out =
      linear_attention(q, k, v, linear_attention::Decay::per_key, gates(x),
                       context, {.scale = scale});
  const at::Tensor gate = at::silu(project_heads(x, output_gate_, head_dim));
  return project(join_heads(rms_norm(out, norm_, config_.norm_eps) * gate),
                 weights_.o);
}

at::Tensor Gla::gates(const at::Tensor& x) const {
  const at::ScalarType type = gate_bias_.scalar_type();
  const at::Tensor logits =
      project(project(x, gate_in_), gate_out_).to(type) + gate_bias_;
  const at::Tensor gates =
      at::log_sigmoid(logits) / config_.linear.number("gate_divisor");
  return gates.view({x.size(0), x.size(1), config_.kv_heads, config_.head_dim});
}

}  // namespace

std::unique_ptr<Mixer> make_gla(const ModelConfig& config, std::int64_t,
                                const std::string& prefix,
                                ParameterMaker& maker) {
  return std::make_unique<Gla>(config, prefix, maker);
}

}  // namespace ringweave::models
