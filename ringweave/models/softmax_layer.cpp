#include "ringweave/models/softmax_layer.h"

#include <ATen/ATen.h>

namespace ringweave::models {

SoftmaxLayer::SoftmaxLayer(const ModelConfig& config, std::int64_t layer,
                           const std::string& prefix, ParameterMaker& maker)
    : head_dim_(config.head_dim),
      sliding_window_(config.sliding_window(layer)),
      weights_(make_projections(config, prefix, maker)) {}

at::Tensor SoftmaxLayer::forward(const at::Tensor& x,
                                 const Context& context) const {
  const at::Tensor q =
      rope(project_heads(x, weights_.q, head_dim_), context.rope);
  const at::Tensor k =
      rope(project_heads(x, weights_.k, head_dim_), context.rope);
  const at::Tensor v = project_heads(x, weights_.v, head_dim_);
  const at::Tensor out = softmax_attention(q, k, v, sliding_window_, context);
  return project(join_heads(out), weights_.o);
}

}  // namespace ringweave::models
