#include "ringweave/models/mixer.h"

#include <cmath>
#include <map>

#include <ATen/ATen.h>

#include "ringweave/base/error.h"
#include "ringweave/models/softmax_layer.h"

namespace ringweave::models {
namespace {

/// By the names of config/linear_family.cpp.
std::map<std::string, MakeMixer*>& linear_mixers() {
  static std::map<std::string, MakeMixer*> mixers = {
      {"basic", make_basic},         {"lightning", make_lightning},
      {"retention", make_retention}, {"gla", make_gla},
      {"based", make_based},         {"rebased", make_rebased},
      {"mamba2", make_mamba2},
  };
  return mixers;
}

}  // namespace

void add_linear_family(const config::LinearFamily& family, MakeMixer* make) {
  config::add_linear_family(family);
  linear_mixers()[family.name] = make;
}

std::unique_ptr<Mixer> make_mixer(const ModelConfig& config, std::int64_t layer,
                                  const std::string& prefix,
                                  ParameterMaker& maker) {
  if (!config.is_linear(layer)) {
    return std::make_unique<SoftmaxLayer>(config, layer, prefix, maker);
  }
  const auto found = linear_mixers().find(config.linear.kind());
  ensure(found != linear_mixers().end(), "linear layers \"{}\" without a mixer",
         config.linear.kind());
  return found->second(config, layer, prefix, maker);
}

double residual_std(const ModelConfig& config) {
  return kInitStd / std::sqrt(2.0 * static_cast<double>(config.layers));
}

Projections make_projections(const ModelConfig& config,
                             const std::string& prefix, ParameterMaker& maker) {
  return make_projections(config, prefix, maker, config.head_dim);
}

Projections make_projections(const ModelConfig& config,
                             const std::string& prefix, ParameterMaker& maker,
                             std::int64_t key_dim) {
  const auto input = [&](const char* name, std::int64_t heads,
                         std::int64_t dim) {
    return maker.normal(prefix + name, {heads * dim, config.hidden}, kInitStd);
  };
  Projections weights;
  weights.q = input("q_proj.weight", config.heads, key_dim);
  weights.k = input("k_proj.weight", config.kv_heads, key_dim);
  weights.v = input("v_proj.weight", config.kv_heads, config.head_dim);
  weights.o = maker.normal(prefix + "o_proj.weight",
                           {config.hidden, config.heads * config.head_dim},
                           residual_std(config));
  return weights;
}

at::Tensor project_heads(const at::Tensor& x, const at::Tensor& weight,
                         std::int64_t head_dim) {
  return split_heads(project(x, weight), weight.size(0) / head_dim);
}

at::Tensor split_heads(const at::Tensor& x, std::int64_t heads) {
  // Both sizes are spelled out: -1 can't be inferred without tokens.
  return x.view({x.size(0), x.size(1), heads, x.size(2) / heads});
}

at::Tensor join_heads(const at::Tensor& x) {
  return x.reshape({x.size(0), x.size(1), x.size(2) * x.size(3)});
}

}  // namespace ringweave::models
