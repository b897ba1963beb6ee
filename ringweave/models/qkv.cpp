#include "ringweave/models/qkv.h"

#include <cmath>

#include <ATen/ATen.h>

namespace ringweave::models {

LinearProjections make_linear_projections(const ModelConfig& config,
                                          const std::string& prefix,
                                          ParameterMaker& maker) {
  return make_linear_projections(config, prefix, maker, config.head_dim);
}

LinearProjections make_linear_projections(const ModelConfig& config,
                                          const std::string& prefix,
                                          ParameterMaker& maker,
                                          std::int64_t key_dim) {
  LinearProjections weights{make_projections(config, prefix, maker, key_dim),
                            {}};
  const std::int64_t width = config.linear.convolution();
  if (width == 0) return weights;
  const auto add = [&](const char* name, const at::Tensor& projection) {
    weights.convolutions.push_back(make_convolution(
        prefix + name, {projection.size(0), 1, width}, width, maker));
  };
  add("q_conv1d.weight", weights.q);
  add("k_conv1d.weight", weights.k);
  add("v_conv1d.weight", weights.v);
  return weights;
}

at::Tensor make_convolution(const std::string& name, at::IntArrayRef shape,
                            std::int64_t width, ParameterMaker& maker) {
  const double bound = 1 / std::sqrt(static_cast<double>(width));
  return maker.uniform(name, shape, [&](const at::Tensor& drawn) {
    return (2 * drawn - 1) * bound;
  });
}

Qkv project_qkv(const at::Tensor& x, const LinearProjections& weights,
                const ModelConfig& config, const Context& context) {
  if (weights.convolutions.empty()) {
    return {split_heads(project(x, weights.q), config.heads),
            split_heads(project(x, weights.k), config.kv_heads),
            split_heads(project(x, weights.v), config.kv_heads)};
  }
  const at::Tensor projected =
      project(x, at::cat({weights.q, weights.k, weights.v}));
  const at::Tensor kernels = at::cat(weights.convolutions).squeeze(1);
  const std::vector<at::Tensor> parts =
      at::silu(short_convolution(projected, kernels, {}, context))
          .split_with_sizes(
              {weights.q.size(0), weights.k.size(0), weights.v.size(0)}, 2);
  return {split_heads(parts[0], config.heads),
          split_heads(parts[1], config.kv_heads),
          split_heads(parts[2], config.kv_heads)};
}

}  // namespace ringweave::models
