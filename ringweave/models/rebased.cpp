// ReBased: a square with learned scale and offset in place of softmax's exp, on
// small heads.
//
// Aksenov et al.: Linear transformers with learnable kernel functions are
// better in-context models, 2024.
#include <cmath>

#include <ATen/ATen.h>

#include "ringweave/models/feature_map.h"
#include "ringweave/models/mixer.h"
#include "ringweave/models/qkv.h"

namespace ringweave::models {
namespace {

/// φ(q)·φ(k) = (q'·k')² / feature_dim and a normaliser, where x' = γ ⊙
/// layernorm(x) + β per head (self_attn.feature_map.{gamma,beta}, the same for
/// q and k).
class Rebased final : public Mixer {
 public:
  Rebased(const ModelConfig& config, const std::string& prefix,
          ParameterMaker& maker)
      : config_(config),
        feature_dim_(config.linear.integer("feature_dim")),
        weights_(make_linear_projections(config, prefix, maker, feature_dim_)),
        gamma_(maker.filled(prefix + "feature_map.gamma", {feature_dim_}, 1.0)),
        beta_(maker.filled(prefix + "feature_map.beta", {feature_dim_}, 0.0)) {}

  at::Tensor forward(const at::Tensor& x,
                     const Context& context) const override {
    const auto [q, k, v] = project_qkv(x, weights_, config_, context);
    const at::Tensor out = normalised_attention(features(q), features(k), v,
                                                kNormaliserEps, context);
    return project(join_heads(out), weights_.o);
  }

 private:
  at::Tensor features(const at::Tensor& x) const {
    const at::Tensor normed =
        at::layer_norm(x.to(gamma_.scalar_type()), {feature_dim_}, gamma_,
                       beta_, config_.norm_eps);
    return square_features(normed) /
           std::sqrt(static_cast<double>(feature_dim_));
  }

  ModelConfig config_;
  std::int64_t feature_dim_;
  LinearProjections weights_;
  at::Tensor gamma_;  ///< (feature_dim)
  at::Tensor beta_;   ///< (feature_dim)
};

}  // namespace

std::unique_ptr<Mixer> make_rebased(const ModelConfig& config, std::int64_t,
                                    const std::string& prefix,
                                    ParameterMaker& maker) {
  return std::make_unique<Rebased>(config, prefix, maker);
}

}  // namespace ringweave::models
