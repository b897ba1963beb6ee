#include "ringweave/models/context.h"

#include <ATen/ATen.h>

#include "ringweave/base/error.h"
#include "ringweave/tensor/scalar_type.h"

namespace ringweave::models {

Context make_context(const ModelConfig& config, ElementType compute,
                     const Split& split, comm::Communicator& communicator) {
  require(split.layout.ranks() == communicator.size(),
          "[model] got a layout of {} ranks on {} ranks; want as many",
          split.layout.ranks(), communicator.size());
  const Rank rank = communicator.rank();
  const auto positions = split.layout.positions(rank);
  Context context;
  context.layout = split.layout;
  context.communicator = &communicator;
  context.positions = at::tensor(positions, at::kLong);
  context.attention_options.grad_payload_in_compute_type =
      split.grad_payload_in_compute_type;
  context.recompute = split.recompute;
  if (config.has_softmax()) {
    context.rope = make_rope(positions, config.head_dim, config.rope_theta,
                             tensor::scalar_type(accumulate_type(compute)));
    context.attention =
        attention::make_attention_plan({.strategy = split.softmax,
                                        .q_layout = split.layout,
                                        .kv_layout = split.layout},
                                       rank);
  }
  if (config.has_linear()) {
    context.linear = linear_attention::make_linear_plan(
        {.exchange = split.linear, .layout = split.layout}, rank);
  }
  return context;
}

}  // namespace ringweave::models
