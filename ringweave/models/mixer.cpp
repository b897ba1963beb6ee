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
      {"basic", make_basic},
      {"lightning", make_lightning},
      {"gla", make_gla},
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
  const std::int64_t q_size = config.heads * config.head_dim;
  const std::int64_t kv_size = config.kv_heads * config.head_dim;
  Projections weights;
  weights.q =
      maker.normal(prefix + "q_proj.weight", {q_size, config.hidden}, kInitStd);
  weights.k = maker.normal(prefix + "k_proj.weight", {kv_size, config.hidden},
                           kInitStd);
  weights.v = maker.normal(prefix + "v_proj.weight", {kv_size, config.hidden},
                           kInitStd);
  weights.o = maker.normal(prefix + "o_proj.weight", {config.hidden, q_size},
                           residual_std(config));
  return weights;
}

at::Tensor project_heads(const at::Tensor& x, const at::Tensor& weight,
                         std::int64_t head_dim) {
  // The number of heads is spelled out: -1 can't be inferred without tokens.
  return project(x, weight).view(
      {x.size(0), x.size(1), weight.size(0) / head_dim, head_dim});
}

at::Tensor join_heads(const at::Tensor& x) {
  return x.reshape({x.size(0), x.size(1), x.size(2) * x.size(3)});
}

}  // namespace ringweave::models
