// Basic linear attention: softmax's exp(q·k) replaced by φ(q)·φ(k).
#include <cmath>

#include <ATen/ATen.h>

#include "ringweave/models/feature_map.h"
#include "ringweave/models/mixer.h"
#include "ringweave/models/qkv.h"
#include "ringweave/models/rms_norm.h"

namespace ringweave::models {
namespace {

using linear_attention::Decay;

/// With φ = elu1 the output is Σ φ(q)·φ(k) v / Σ φ(q)·φ(k). With the identity,
/// whose denominator may vanish, each head's output is RMS-normed instead
/// (weight self_attn.o_norm.weight).
class Basic final : public Mixer {
 public:
  Basic(const ModelConfig& config, const std::string& prefix,
        ParameterMaker& maker);
  at::Tensor forward(const at::Tensor& x,
                     const Context& context) const override;

 private:
  at::Tensor normalised(const at::Tensor& q, const at::Tensor& k,
                        const at::Tensor& v, const Context& context) const;
  at::Tensor plain(const at::Tensor& q, const at::Tensor& k,
                   const at::Tensor& v, const Context& context) const;

  ModelConfig config_;
  LinearProjections weights_;
  at::Tensor norm_;  ///< (head_dim); undefined for elu1
};

Basic::Basic(const ModelConfig& config, const std::string& prefix,
             ParameterMaker& maker)
    : config_(config),
      weights_(make_linear_projections(config, prefix, maker)) {
  if (config.linear.word("feature_map") == "identity") {
    norm_ = maker.filled(prefix + "o_norm.weight", {config.head_dim}, 1.0);
  }
}

at::Tensor Basic::forward(const at::Tensor& x, const Context& context) const {
  const auto [q, k, v] = project_qkv(x, weights_, config_, context);
  const at::Tensor out =
      norm_.defined() ? plain(q, k, v, context) : normalised(q, k, v, context);
  return project(join_heads(out), weights_.o);
}

at::Tensor Basic::normalised(const at::Tensor& q, const at::Tensor& k,
                             const at::Tensor& v,
                             const Context& context) const {
  // The denominator is a statistic: it is summed in fp32 under bfloat16 too.
  const at::ScalarType type = weights_.q.scalar_type();
  const at::Tensor phi_q = at::elu(q.to(type)) + 1.0;
  const at::Tensor phi_k = at::elu(k.to(type)) + 1.0;
  // φ > 0 mathematically; elu(x) + 1 rounds to 0 for very negative x.
  return normalised_attention(phi_q, phi_k, v, config_.norm_eps, context);
}

at::Tensor Basic::plain(const at::Tensor& q, const at::Tensor& k,
                        const at::Tensor& v, const Context& context) const {
  const double scale = 1.0 / std::sqrt(static_cast<double>(config_.head_dim));
  const at::Tensor sums =
      linear_attention(q, k, v, Decay::none, {}, context, {.scale = scale});
  return rms_norm(sums, norm_, config_.norm_eps);
}

}  // namespace

std::unique_ptr<Mixer> make_basic(const ModelConfig& config, std::int64_t,
                                  const std::string& prefix,
                                  ParameterMaker& maker) {
  return std::make_unique<Basic>(config, prefix, maker);
}

}  // namespace ringweave::models
