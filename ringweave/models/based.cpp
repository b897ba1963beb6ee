// Based: exp(s) of softmax replaced by its Taylor series to the second order,
// on small heads.
//
// Arora et al.: Simple linear attention language models balance the
// recall-throughput tradeoff, 2024.
#include <cmath>

#include <ATen/ATen.h>

#include "ringweave/models/feature_map.h"
#include "ringweave/models/mixer.h"
#include "ringweave/models/qkv.h"

namespace ringweave::models {
namespace {

/// φ(q)·φ(k) = 1 + s + s²/2 with s = q·k / √feature_dim, and a normaliser.
class Based final : public Mixer {
 public:
  Based(const ModelConfig& config, const std::string& prefix,
        ParameterMaker& maker)
      : config_(config),
        feature_dim_(config.linear.integer("feature_dim")),
        weights_(make_linear_projections(config, prefix, maker, feature_dim_)) {
  }

  at::Tensor forward(const at::Tensor& x,
                     const Context& context) const override {
    const auto [q, k, v] = project_qkv(x, weights_, config_, context);
    const at::Tensor out = normalised_attention(features(q), features(k), v,
                                                kNormaliserEps, context);
    return project(join_heads(out), weights_.o);
  }

 private:
  at::Tensor features(const at::Tensor& x) const {
    // The denominator is a statistic: it is summed in fp32 under bfloat16 too.
    const at::Tensor scaled = x.to(weights_.q.scalar_type()) /
                              std::pow(static_cast<double>(feature_dim_), 0.25);
    const at::Tensor one =
        at::ones({x.size(0), x.size(1), x.size(2), 1}, scaled.options());
    return at::cat({one, scaled, square_features(scaled) / std::sqrt(2.0)}, 3);
  }

  ModelConfig config_;
  std::int64_t feature_dim_;
  LinearProjections weights_;
};

}  // namespace

std::unique_ptr<Mixer> make_based(const ModelConfig& config, std::int64_t,
                                  const std::string& prefix,
                                  ParameterMaker& maker) {
  return std::make_unique<Based>(config, prefix, maker);
}

}  // namespace ringweave::models
