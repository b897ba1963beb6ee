#include "ringweave/models/gla.h"

#include <cmath>

#include <ATen/ATen.h>

#include "ringweave/models/rms_norm.h"

namespace ringweave::models {

Gla::Gla(const ModelConfig& config, const std::string& prefix,
         ParameterMaker& maker)
    : config_(config), weights_(make_projections(config, prefix, maker)) {
  const std::int64_t key_size = config.kv_heads * config.head_dim;
  gate_in_ = maker.normal(prefix + "gk_proj.0.weight",
                          {config.linear.gate_rank, config.hidden}, kInitStd);
  gate_out_ = maker.normal(prefix + "gk_proj.1.weight",
                           {key_size, config.linear.gate_rank}, kInitStd);
  gate_bias_ = maker.filled(prefix + "gk_proj.1.bias", {key_size}, 0.0);
  output_gate_ =
      maker.normal(prefix + "g_proj.weight",
                   {config.heads * config.head_dim, config.hidden}, kInitStd);
  norm_ = maker.filled(prefix + "g_norm.weight", {config.head_dim}, 1.0);
}

at::Tensor Gla::forward(const at::Tensor& x, const Context& context) const {
  const std::int64_t head_dim = config_.head_dim;
  const at::Tensor q = project_heads(x, weights_.q, head_dim);
  const at::Tensor k =
      repeat_heads(project_heads(x, weights_.k, head_dim), config_.heads);
  const at::Tensor v =
      repeat_heads(project_heads(x, weights_.v, head_dim), config_.heads);
  const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
  const at::Tensor out =
      linear_attention::linear_attention(
          q, k, v, linear_attention::Decay::per_key, gates(x), {},
          context.linear, *context.communicator, {.scale = scale})
          .out;
  const at::Tensor gate = at::silu(project_heads(x, output_gate_, head_dim));
  return project(join_heads(rms_norm(out, norm_, config_.norm_eps) * gate),
                 weights_.o);
}

at::Tensor Gla::gates(const at::Tensor& x) const {
  const at::ScalarType type = gate_bias_.scalar_type();
  const at::Tensor logits =
      project(project(x, gate_in_), gate_out_).to(type) + gate_bias_;
  const at::Tensor gates =
      at::log_sigmoid(logits) / config_.linear.gate_divisor;
  return repeat_heads(
      gates.view({x.size(0), x.size(1), config_.kv_heads, config_.head_dim}),
      config_.heads);
}

}  // namespace ringweave::models
