// Retention: a constant decay per head, rotary queries and keys.
//
// Sun et al.: Retentive network: a successor to Transformer for large language
// models, 2023.
#include <cmath>

#include <ATen/ATen.h>

#include "ringweave/models/mixer.h"
#include "ringweave/models/qkv.h"
#include "ringweave/models/rms_norm.h"

namespace ringweave::models {
namespace {

/// γ_h = 1 - 2^(-5-h). Each head's output is RMS-normed
/// (self_attn.g_norm.weight) and multiplied by silu(W x) (self_attn.g_proj).
class Retention final : public Mixer {
 public:
  Retention(const ModelConfig& config, const std::string& prefix,
            ParameterMaker& maker);
  at::Tensor forward(const at::Tensor& x,
                     const Context& context) const override;

 private:
  ModelConfig config_;
  LinearProjections weights_;
  at::Tensor output_gate_;  ///< (heads · head_dim, hidden)
  at::Tensor norm_;         ///< (head_dim)
  at::Tensor decay_;        ///< (heads), fixed
};

std::vector<double> log_decays(std::int64_t heads) {
  std::vector<double> decays;
  for (std::int64_t head = 0; head < heads; ++head) {
    decays.push_back(std::log1p(-std::exp2(-5.0 - static_cast<double>(head))));
  }
  return decays;
}

Retention::Retention(const ModelConfig& config, const std::string& prefix,
                     ParameterMaker& maker)
    : config_(config),
      weights_(make_linear_projections(config, prefix, maker)),
      output_gate_(maker.normal(prefix + "g_proj.weight",
                                {config.heads * config.head_dim, config.hidden},
                                kInitStd)),
      norm_(maker.filled(prefix + "g_norm.weight", {config.head_dim}, 1.0)),
      decay_(at::tensor(log_decays(config.heads), norm_.scalar_type())) {}

at::Tensor Retention::forward(const at::Tensor& x,
                              const Context& context) const {
  const std::int64_t head_dim = config_.head_dim;
  const auto [q, k, v] = project_qkv(x, weights_, config_, context);
  const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
  const at::Tensor out = linear_attention(
      rope(q, context.rope), rope(k, context.rope), v,
      linear_attention::Decay::constant, decay_, context, {.scale = scale});
  const at::Tensor gate = at::silu(project_heads(x, output_gate_, head_dim));
  return project(join_heads(rms_norm(out, norm_, config_.norm_eps) * gate),
                 weights_.o);
}

}  // namespace

std::unique_ptr<Mixer> make_retention(const ModelConfig& config, std::int64_t,
                                      const std::string& prefix,
                                      ParameterMaker& maker) {
  return std::make_unique<Retention>(config, prefix, maker);
}

}  // namespace ringweave::models
