// Based: exp(s) of softmax replaced by its Taylor series to the second order,
// on small heads.
//
// Arora et al.: Simple linear attention language models balance the
// recall-throughput tradeoff, 2024.
#include <cmath>

#include <ATen/ATen.h>

#include "ringweave/models/feature_map.h"
#include "ringweave/models/mixer.h"

namespace ringweave::models {
namespace {

/// φ(q)·φ(k) = 1 + s + s²/2 with s = q·k / √feature_dim, and a normaliser.
class Based final : public Mixer {
 public:
  Based(const ModelConfig& config, const std::string& prefix,
        ParameterMaker& maker)
      : config_(config),
        feature_dim_(config.linear.integer("feature_dim")),
        weights_(make_projections(config, prefix, maker, feature_dim_)) {}

  at::Tensor forward(const at::Tensor& x,
                     const Context& context) const override {
    const at::Tensor v = project_heads(x, weights_.v, config_.head_dim);
    const at::Tensor out =
        normalised_attention(features(x, weights_.q), features(x, weights_.k),
                             v, kNormaliserEps, context);
    return project(join_heads(out), weights_.o);
  }

 private:
  at::Tensor features(const at::Tensor& x, const at::Tensor& weight) const {
    // The denominator is a statistic: it is summed in fp32 under bfloat16 too.
    const at::Tensor projected = project_heads(x, weight, feature_dim_)
                                     .to(weight.scalar_type()) /
                                 std::pow(static_cast<double>(feature_dim_),
                                          0.25);
    const at::Tensor one =
        at::ones({x.size(0), x.size(1), projected.size(2), 1},
                 projected.options());
    return at::cat(
        {one, projected, square_features(projected) / std::sqrt(2.0)}, 3);
  }

  ModelConfig config_;
  std::int64_t feature_dim_;
  Projections weights_;
};

}  // namespace

std::unique_ptr<Mixer> make_based(const ModelConfig& config, std::int64_t,
                                  const std::string& prefix,
                                  ParameterMaker& maker) {
  return std::make_unique<Based>(config, prefix, maker);
}

}  // namespace ringweave::models
