// Mamba-2: a decay per token and head that the token chooses, and one key and
// query for all heads.
//
// Dao and Gu: Transformers are SSMs: generalized models and efficient
// algorithms through structured state space duality, 2024.
#include <cmath>
#include <vector>

#include <ATen/ATen.h>

#include "ringweave/models/mixer.h"
#include "ringweave/models/qkv.h"
#include "ringweave/models/rms_norm.h"

namespace ringweave::models {
namespace {

/// Values x, keys B and queries C go through one short convolution and SiLU.
/// Per head, with Δ = softplus(W x + dt_bias): S_t = exp(-Δ exp(A_log)) S_{t-1}
/// + Δ B xᵀ, and y = Sᵀ C + D x. The output of all heads together, times SiLU
/// of a gate, is RMS-normed.
///
/// Names are those of Transformers' Mamba2, but for projections: its in_proj is
/// q_proj (C), k_proj (B), v_proj (x), g_proj (z) and dt_proj, its out_proj
/// o_proj.
class Mamba2 final : public Mixer {
 public:
  Mamba2(const ModelConfig& config, const std::string& prefix,
         ParameterMaker& maker);
  at::Tensor forward(const at::Tensor& x,
                     const Context& context) const override;

 private:
  ModelConfig config_;
  std::int64_t state_dim_;
  at::Tensor queries_;           ///< (state_dim, hidden)
  at::Tensor keys_;              ///< (state_dim, hidden)
  at::Tensor values_;            ///< (heads · head_dim, hidden)
  at::Tensor out_;               ///< (hidden, heads · head_dim)
  at::Tensor gate_;              ///< (heads · head_dim, hidden)
  at::Tensor step_;              ///< (heads, hidden)
  at::Tensor convolution_;       ///< (channels of x, B and C, 1, convolution)
  at::Tensor convolution_bias_;  ///< (channels of x, B and C)
  at::Tensor log_decay_;         ///< (heads): A_log
  at::Tensor skip_;              ///< (heads): D
  at::Tensor step_bias_;         ///< (heads): dt_bias
  at::Tensor norm_;              ///< (heads · head_dim)
};

/// Evenly from 1 to 16, as the authors draw A.
at::Tensor initial_log_decay(const at::Tensor& drawn) {
  return (1 + 15 * drawn).log();
}

/// Such that softplus of it is from 1e-3 to 0.1, evenly in the logarithm.
at::Tensor initial_step_bias(const at::Tensor& drawn) {
  const double least = std::log(1e-3);
  const at::Tensor step = (least + (std::log(0.1) - least) * drawn).exp();
  return step + at::log(-at::expm1(-step));
}

Mamba2::Mamba2(const ModelConfig& config, const std::string& prefix,
               ParameterMaker& maker)
    : config_(config), state_dim_(config.linear.integer("state_dim")) {
  const std::int64_t inner = config.heads * config.head_dim;
  const std::int64_t width = config.linear.convolution();
  const std::int64_t channels = inner + 2 * state_dim_;
  const auto input = [&](const char* name, std::int64_t size) {
    return maker.normal(prefix + name, {size, config.hidden}, kInitStd);
  };
  queries_ = input("q_proj.weight", state_dim_);
  keys_ = input("k_proj.weight", state_dim_);
  values_ = input("v_proj.weight", inner);
  out_ = maker.normal(prefix + "o_proj.weight", {config.hidden, inner},
                      residual_std(config));
  gate_ = input("g_proj.weight", inner);
  step_ = input("dt_proj.weight", config.heads);
  convolution_ = make_convolution(prefix + "conv1d.weight",
                                  {channels, 1, width}, width, maker);
  convolution_bias_ =
      make_convolution(prefix + "conv1d.bias", {channels}, width, maker);
  log_decay_ =
      maker.uniform(prefix + "A_log", {config.heads}, initial_log_decay);
  skip_ = maker.filled(prefix + "D", {config.heads}, 1.0);
  step_bias_ =
      maker.uniform(prefix + "dt_bias", {config.heads}, initial_step_bias);
  norm_ = maker.filled(prefix + "norm.weight", {inner}, 1.0);
}

at::Tensor Mamba2::forward(const at::Tensor& x, const Context& context) const {
  // Steps and decays, the skip and the gated norm are in fp32 under bfloat16.
  const at::ScalarType type = norm_.scalar_type();
  const at::Tensor projected = project(x, at::cat({values_, keys_, queries_}));
  const std::vector<at::Tensor> parts =
      at::silu(short_convolution(projected, convolution_.squeeze(1),
                                 convolution_bias_, context))
          .split_with_sizes({values_.size(0), state_dim_, state_dim_}, 2);
  const at::Tensor in = split_heads(parts[0], config_.heads).to(type);
  const at::Tensor step = at::softplus(project(x, step_).to(type) + step_bias_);
  // The step multiplies the value, not the key: the same product, and the key
  // stays one for all heads.
  const at::Tensor out = linear_attention(
      split_heads(parts[2], 1), split_heads(parts[1], 1),
      (in * step.unsqueeze(3)).to(x.scalar_type()),
      linear_attention::Decay::per_head, -step * log_decay_.exp(), context);
  const at::Tensor skipped = out.to(type) + in * skip_.unsqueeze(1);
  const at::Tensor gated =
      join_heads(skipped) * at::silu(project(x, gate_).to(type));
  return project(rms_norm(gated, norm_, config_.norm_eps).to(x.scalar_type()),
                 out_);
}

}  // namespace

std::unique_ptr<Mixer> make_mamba2(const ModelConfig& config, std::int64_t,
                                   const std::string& prefix,
                                   ParameterMaker& maker) {
  return std::make_unique<Mamba2>(config, prefix, maker);
}

}  // namespace ringweave::models
