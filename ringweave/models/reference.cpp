#include "ringweave/models/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numbers>
#include <string>

#include <ATen/ATen.h>

namespace ringweave::models::test {
namespace {

using at::Tensor;

Tensor norm(const Tensor& x, const Tensor& weight, double eps) {
  return weight * x / at::sqrt(x.pow(2).mean(-1, true) + eps);
}

Tensor heads_of(const Tensor& x, const Tensor& weight, std::int64_t dim) {
  const Tensor y = at::matmul(x, weight.t());
  return y.reshape({y.size(0), y.size(1), -1, dim}).transpose(1, 2);
}

/// y (batch, tokens, channels) with the kernel (channels, 1, width) of each
/// channel and its bias, then SiLU.
Tensor convolved(const Tensor& y, const Tensor& kernel, const Tensor& bias) {
  const std::int64_t width = kernel.size(2);
  std::vector<Tensor> out;
  for (std::int64_t t = 0; t < y.size(1); ++t) {
    Tensor sum = bias.expand({y.size(0), y.size(2)});
    for (std::int64_t j = 0; j < width && j <= t; ++j) {
      sum = sum +
            y.select(1, t - j) * kernel.select(1, 0).select(1, width - 1 - j);
    }
    out.push_back(sum * at::sigmoid(sum));
  }
  return at::stack(out, 1);
}

/// Of the pair of dimensions that turns so far from one token to the next.
double scaled(double angle, const config::RopeScaling& scaling) {
  const auto tokens =
      static_cast<double>(scaling.original_max_position_embeddings);
  const double wavelength = 2 * std::numbers::pi / angle;
  if (wavelength < tokens / scaling.high_freq_factor) return angle;
  if (wavelength > tokens / scaling.low_freq_factor) {
    return angle / scaling.factor;
  }
  const double part = (tokens / wavelength - scaling.low_freq_factor) /
                      (scaling.high_freq_factor - scaling.low_freq_factor);
  return part * angle + (1 - part) * angle / scaling.factor;
}

/// Of x (batch, heads, tokens, dim), at positions 0, 1, …
Tensor rotated(const Tensor& x, const ModelConfig& config) {
  const std::int64_t dim = x.size(3);
  std::vector<Tensor> columns(static_cast<std::size_t>(dim));
  const Tensor t = at::arange(x.size(2), x.options());
  for (std::int64_t i = 0; i < dim / 2; ++i) {
    double turn = std::pow(config.rope_theta, -2.0 * static_cast<double>(i) /
                                                  static_cast<double>(dim));
    if (config.rope_scaling) turn = scaled(turn, *config.rope_scaling);
    const Tensor angle = t * turn;
    const Tensor a = x.select(3, i);
    const Tensor b = x.select(3, i + dim / 2);
    columns[static_cast<std::size_t>(i)] = a * angle.cos() - b * angle.sin();
    columns[static_cast<std::size_t>(i + dim / 2)] =
        a * angle.sin() + b * angle.cos();
  }
  return at::stack(columns, 3);
}

/// `window`: ModelConfig::sliding_window().
Tensor softmax_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                         bool causal, std::int64_t window) {
  const std::int64_t tokens = q.size(2);
  const Tensor all = at::ones({tokens, tokens}, q.options().dtype(at::kBool));
  Tensor unseen = causal ? all.triu(1) : all.logical_not();
  if (window > 0) unseen = unseen.logical_or(all.tril(-window));
  const Tensor logits = at::matmul(q, k.transpose(2, 3)) / std::sqrt(q.size(3));
  return at::matmul(
      at::softmax(
          logits.masked_fill(unseen, -std::numeric_limits<double>::infinity()),
          -1),
      v);
}

Tensor zero_gate(const Tensor& q) {
  return at::zeros({1, 1, 1, 1}, q.options());
}

/// Without decay.
Tensor summed(const Tensor& q, const Tensor& k, const Tensor& v, bool causal) {
  return causal ? recurrence(q, k, v, zero_gate(q))
                : at::matmul(q, at::matmul(k.transpose(2, 3), v));
}

Tensor basic(const ReferenceInput& x) {
  const ModelConfig& config = x.config;
  if (config.linear.word("feature_map") == "identity") {
    return norm(
        summed(x.q / std::sqrt(config.head_dim), x.k, x.v, config.causal),
        x.weight("o_norm.weight"), config.norm_eps);
  }
  const Tensor phi_q = at::where(x.q > 0, x.q + 1, x.q.exp());
  const Tensor phi_k = at::where(x.k > 0, x.k + 1, x.k.exp());
  const Tensor sums = summed(phi_q, phi_k, x.v, config.causal);
  const Tensor keys = config.causal ? phi_k.cumsum(2) : phi_k.sum(2, true);
  const Tensor denominators = (phi_q * keys).sum(3, true) + config.norm_eps;
  return sums / denominators;
}

Tensor lightning(const ReferenceInput& x) {
  const ModelConfig& config = x.config;
  std::vector<Tensor> gates;
  for (std::int64_t h = 1; h <= config.heads; ++h) {
    const double slope = std::pow(
        2.0, -8.0 * static_cast<double>(h) / static_cast<double>(config.heads));
    const double depth =
        static_cast<double>(x.layer) / static_cast<double>(config.layers - 1);
    gates.push_back(
        at::full({1, 1, 1}, -slope * (1 - depth + 1e-5), x.q.options()));
  }
  const Tensor out =
      recurrence(x.q * at::sigmoid(x.q) / std::sqrt(config.head_dim),
                 x.k * at::sigmoid(x.k), x.v, at::stack(gates, 1));
  const Tensor joined = out.transpose(1, 2).flatten(2);
  return norm(joined, x.weight("o_norm.weight"), config.norm_eps)
      .reshape({out.size(0), out.size(2), config.heads, config.head_dim})
      .transpose(1, 2);
}

Tensor gla(const ReferenceInput& x) {
  const ModelConfig& config = x.config;
  const Tensor logits =
      at::matmul(at::matmul(x.input, x.weight("gk_proj.0.weight").t()),
                 x.weight("gk_proj.1.weight").t()) +
      x.weight("gk_proj.1.bias");
  const Tensor gates =
      -at::log1p(at::exp(-logits)) / config.linear.number("gate_divisor");
  const Tensor g = gates
                       .reshape({x.input.size(0), x.input.size(1),
                                 config.kv_heads, config.head_dim})
                       .transpose(1, 2)
                       .repeat_interleave(config.heads / config.kv_heads, 1);
  const Tensor out = recurrence(x.q / std::sqrt(config.head_dim), x.k, x.v, g);
  const Tensor gate =
      heads_of(x.input, x.weight("g_proj.weight"), config.head_dim);
  return norm(out, x.weight("g_norm.weight"), config.norm_eps) * gate *
         at::sigmoid(gate);
}

Tensor retention(const ReferenceInput& x) {
  const ModelConfig& config = x.config;
  std::vector<Tensor> gates;
  for (std::int64_t h = 0; h < config.heads; ++h) {
    gates.push_back(at::full(
        {1, 1, 1}, std::log(1 - std::pow(2.0, -5.0 - static_cast<double>(h))),
        x.q.options()));
  }
  const Tensor out =
      recurrence(rotated(x.q, config) / std::sqrt(config.head_dim),
                 rotated(x.k, config), x.v, at::stack(gates, 1));
  const Tensor gate =
      heads_of(x.input, x.weight("g_proj.weight"), config.head_dim);
  return norm(out, x.weight("g_norm.weight"), config.norm_eps) * gate *
         at::sigmoid(gate);
}

/// Of a kernel of each query and each key that it sees, (…, queries, keys).
Tensor of_kernel(const Tensor& kernel, const Tensor& v, bool causal) {
  const Tensor seen = causal ? kernel.tril() : kernel;
  return at::matmul(seen, v) / (seen.sum(3, true) + 1e-6);
}

Tensor based(const ReferenceInput& x) {
  const Tensor s =
      at::matmul(x.q, x.k.transpose(2, 3)) / std::sqrt(x.q.size(3));
  return of_kernel(1 + s + s * s / 2, x.v, x.config.causal);
}

Tensor rebased(const ReferenceInput& x) {
  const auto mapped = [&](const Tensor& y) {
    const Tensor centred = y - y.mean(-1, true);
    return x.weight("feature_map.gamma") * centred /
               at::sqrt(centred.pow(2).mean(-1, true) + x.config.norm_eps) +
           x.weight("feature_map.beta");
  };
  return of_kernel(
      at::matmul(mapped(x.q), mapped(x.k).transpose(2, 3)).pow(2) / x.q.size(3),
      x.v, x.config.causal);
}

/// By its own projections: x.q, x.k and x.v are not there.
Tensor mamba2(const ReferenceInput& x) {
  const ModelConfig& config = x.config;
  const std::int64_t inner = config.heads * config.head_dim;
  const std::int64_t state = config.linear.integer("state_dim");
  const auto projected = [&](const std::string& name) {
    return at::matmul(x.input, x.weight(name + "_proj.weight").t());
  };
  const Tensor seen =
      convolved(at::cat({projected("v"), projected("k"), projected("q")}, 2),
                x.weight("conv1d.weight"), x.weight("conv1d.bias"));
  const Tensor v =
      seen.narrow(2, 0, inner)
          .reshape({seen.size(0), seen.size(1), config.heads, config.head_dim})
          .transpose(1, 2);
  const auto for_heads = [&](std::int64_t begin) {
    return seen.narrow(2, begin, state)
        .unsqueeze(1)
        .expand({seen.size(0), config.heads, seen.size(1), state});
  };
  const Tensor step = at::log1p(at::exp(projected("dt") + x.weight("dt_bias")))
                          .transpose(1, 2)
                          .unsqueeze(3);
  const auto of_head = [&](const std::string& name) {
    return x.weight(name).view({1, config.heads, 1, 1});
  };
  const Tensor out =
      recurrence(for_heads(inner + state), step * for_heads(inner), v,
                 -step * of_head("A_log").exp()) +
      of_head("D") * v;
  const Tensor gate = projected("g");
  return norm(out.transpose(1, 2).flatten(2) * gate * at::sigmoid(gate),
              x.weight("norm.weight"), config.norm_eps)
      .reshape({seen.size(0), seen.size(1), config.heads, config.head_dim})
      .transpose(1, 2);
}

std::map<std::string, ReferenceMixer*>& references() {
  static std::map<std::string, ReferenceMixer*> all = {
      {"basic", basic},  {"lightning", lightning}, {"retention", retention},
      {"gla", gla},      {"based", based},         {"rebased", rebased},
      {"mamba2", mamba2}};
  return all;
}

Tensor mixed(const ModelConfig& config, const Weights& weights,
             const std::string& prefix, std::int64_t layer, const Tensor& x) {
  const bool convolves =
      config.is_linear(layer) && config.linear.convolution() > 0;
  // Such a family projects by itself.
  const bool own = config.is_linear(layer) && config.linear.family().own_values;
  const auto heads = [&](const std::string& name, std::int64_t count) {
    if (own) return Tensor();
    Tensor y = at::matmul(x, weights.at(prefix + name + "_proj.weight").t());
    if (convolves) {
      y = convolved(y, weights.at(prefix + name + "_conv1d.weight"),
                    at::zeros({1}, y.options()));
    }
    return y.reshape({y.size(0), y.size(1), count, -1})
        .transpose(1, 2)
        .repeat_interleave(config.heads / count, 1);
  };
  const ReferenceInput input{.config = config,
                             .layer = layer,
                             .weights = weights,
                             .prefix = prefix,
                             .input = x,
                             .q = heads("q", config.heads),
                             .k = heads("k", config.kv_heads),
                             .v = heads("v", config.kv_heads)};
  const Tensor out =
      config.is_linear(layer)
          ? references().at(config.linear.kind())(input)
          : softmax_attention(rotated(input.q, config),
                              rotated(input.k, config), input.v, config.causal,
                              config.sliding_window(layer));
  return at::matmul(out.transpose(1, 2).flatten(2),
                    weights.at(prefix + "o_proj.weight").t());
}

/// Of sequences (batch, labels + 1), whose first `tokens` the model reads:
/// summed over all labels.
Tensor sum_of_losses(const ModelConfig& config, const Weights& weights,
                     const Tensor& sequences, std::int64_t tokens) {
  const std::int64_t count = sequences.size(1) - 1;
  const Tensor embedding = weights.at("model.embed_tokens.weight");
  Tensor x = embedding.index({sequences.narrow(1, 0, tokens)});
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    x = x + mixed(config, weights, prefix + "self_attn.", i,
                  norm(x, weights.at(prefix + "input_layernorm.weight"),
                       config.norm_eps));
    const Tensor y =
        norm(x, weights.at(prefix + "post_attention_layernorm.weight"),
             config.norm_eps);
    const Tensor gate =
        at::matmul(y, weights.at(prefix + "mlp.gate_proj.weight").t());
    const Tensor up =
        at::matmul(y, weights.at(prefix + "mlp.up_proj.weight").t());
    x = x + at::matmul(gate * at::sigmoid(gate) * up,
                       weights.at(prefix + "mlp.down_proj.weight").t());
  }
  const Tensor head =
      config.tie_embeddings ? embedding : weights.at("lm_head.weight");
  const Tensor logits = at::matmul(
      norm(x, weights.at("model.norm.weight"), config.norm_eps), head.t());
  const Tensor labels = sequences.narrow(1, 1, count).unsqueeze(2);
  return -at::log(at::softmax(logits.narrow(1, 0, count), -1))
              .gather(2, labels)
              .sum();
}

}  // namespace

Tensor recurrence(const Tensor& q, const Tensor& k, const Tensor& v,
                  const Tensor& g) {
  Tensor state =
      at::zeros({q.size(0), q.size(1), q.size(3), v.size(3)}, q.options());
  const Tensor gates = g.expand(q.sizes());
  std::vector<Tensor> out;
  for (std::int64_t t = 0; t < q.size(2); ++t) {
    state = gates.select(2, t).exp().unsqueeze(3) * state +
            k.select(2, t).unsqueeze(3) * v.select(2, t).unsqueeze(2);
    out.push_back((state * q.select(2, t).unsqueeze(3)).sum(2));
  }
  return at::stack(out, 2);
}

void add_reference(const std::string& kind, ReferenceMixer* reference) {
  references()[kind] = reference;
}

at::Tensor reference_loss(const ModelConfig& config,
                          const std::vector<Parameter>& parameters,
                          const at::Tensor& sequences,
                          const std::vector<Borders>& borders) {
  Weights weights;
  for (const auto& parameter : parameters) {
    weights[parameter.name] = parameter.value;
  }
  Tensor sum = at::zeros({}, parameters.front().value.options());
  std::int64_t labels = 0;
  for (std::int64_t row = 0; row < sequences.size(0); ++row) {
    Borders ends =
        borders.empty() ? Borders{} : borders[static_cast<std::size_t>(row)];
    ends.push_back(sequences.size(1));
    std::int64_t begin = 0;
    for (const std::int64_t end : ends) {
      // The last token has no label of its own document; of the last document
      // it is not even read.
      if (end - begin > 1) {
        const std::int64_t read = std::min(end, sequences.size(1) - 1) - begin;
        sum = sum + sum_of_losses(config, weights,
                                  sequences.narrow(0, row, 1).narrow(
                                      1, begin, end - begin),
                                  read);
        labels += end - begin - 1;
      }
      begin = end;
    }
  }
  return sum / labels;
}

}  // namespace ringweave::models::test
