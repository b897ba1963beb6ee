// Lightning attention: a constant decay per head, SiLU on queries and keys.
#include "ringweave/models/lightning.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include <ATen/ATen.h>

#include "ringweave/models/mixer.h"
#include "ringweave/models/qkv.h"
#include "ringweave/models/rms_norm.h"

namespace ringweave::models {

std::vector<double> alibi_slopes(std::int64_t heads) {
  const auto power = static_cast<std::int64_t>(
      std::bit_floor(static_cast<std::uint64_t>(heads)));
  const auto slope = [](std::int64_t i, std::int64_t count) {
    return std::exp2(-8.0 * static_cast<double>(i + 1) /
                     static_cast<double>(count));
  };
  std::vector<double> slopes;
  for (std::int64_t i = 0; i < heads; ++i) {
    slopes.push_back(i < power ? slope(i, power)
                               : slope(2 * (i - power), 2 * power));
  }
  return slopes;
}

std::vector<double> lightning_decay(std::int64_t heads, std::int64_t layer,
                                    std::int64_t layers) {
  constexpr double kLeast = 1e-5;  // keeps the last layer's decay below 0
  const double depth =
      static_cast<double>(layer) /
      static_cast<double>(std::max<std::int64_t>(1, layers - 1));
  std::vector<double> decay;
  for (const double slope : alibi_slopes(heads)) {
    decay.push_back(-slope * (1.0 - depth + kLeast));
  }
  return decay;
}

namespace {

/// The output of all heads together is RMS-normed (self_attn.o_norm.weight).
class Lightning final : public Mixer {
 public:
  Lightning(const ModelConfig& config, std::int64_t layer,
            const std::string& prefix, ParameterMaker& maker);
  at::Tensor forward(const at::Tensor& x,
                     const Context& context) const override;

 private:
  ModelConfig config_;
  LinearProjections weights_;
  at::Tensor norm_;   ///< (heads · head_dim)
  at::Tensor decay_;  ///< (heads), fixed
};

Lightning::Lightning(const ModelConfig& config, std::int64_t layer,
                     const std::string& prefix, ParameterMaker& maker)
    : config_(config),
      weights_(make_linear_projections(config, prefix, maker)),
      norm_(maker.filled(prefix + "o_norm.weight",
                         {config.heads * config.head_dim}, 1.0)),
      decay_(at::tensor(lightning_decay(config.heads, layer, config.layers),
                        norm_.scalar_type())) {}

at::Tensor Lightning::forward(const at::Tensor& x,
                              const Context& context) const {
  const auto [q, k, v] = project_qkv(x, weights_, config_, context);
  const double scale = 1.0 / std::sqrt(static_cast<double>(config_.head_dim));
  const at::Tensor out = linear_attention(at::silu(q), at::silu(k), v,
                                          linear_attention::Decay::constant,
                                          decay_, context, {.scale = scale});
  return project(rms_norm(join_heads(out), norm_, config_.norm_eps),
                 weights_.o);
}

}  // namespace

std::unique_ptr<Mixer> make_lightning(const ModelConfig& config,
                                      std::int64_t layer,
                                      const std::string& prefix,
                                      ParameterMaker& maker) {
  return std::make_unique<Lightning>(config, layer, prefix, maker);
}

}  // namespace ringweave::models
