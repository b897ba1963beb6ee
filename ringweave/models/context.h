// What a model needs to know about the split of its sequences over ranks.
#pragma once

#include <memory>

#include <ATen/core/Tensor.h>

#include "ringweave/attention/attention.h"
#include "ringweave/base/element_type.h"
#include "ringweave/comm/communicator.h"
#include "ringweave/config/model_config.h"
#include "ringweave/linear_attention/linear_attention.h"
#include "ringweave/models/recompute.h"
#include "ringweave/models/rope.h"
#include "ringweave/schedule/layout/layout.h"
#include "ringweave/schedule/strategy/strategy.h"

namespace ringweave::models {

using config::ModelConfig;

struct Split {
  schedule::Layout layout;
  schedule::Strategy softmax;                 ///< of the softmax layers
  schedule::StateExchangePtr linear;          ///< of the linear layers
                                              ///< (null without)
  bool grad_payload_in_compute_type = false;  ///< attention::AttentionOptions
  Recompute recompute = Recompute::none;      ///< the same on all ranks
};

/// One rank's view of a split; shared by all layers and steps.
struct Context {
  schedule::Layout layout = schedule::Layout::contiguous(0, 1);
  comm::Communicator* communicator = nullptr;  ///< outlives the context and
                                               ///< every autograd graph
  at::Tensor positions;                        ///< (tokens of this rank) int64
  RopeTables rope;  ///< undefined without softmax layers
  std::shared_ptr<const attention::AttentionPlan> attention;   ///< or null
  std::shared_ptr<const linear_attention::LinearPlan> linear;  ///< or null
  attention::AttentionOptions attention_options;
  Recompute recompute = Recompute::none;
};

/// Plans what the model's layers need. Throws InvalidArgument if the layout has
/// other ranks than the communicator or is striped while there are linear
/// layers; NoSolution if the strategy does not exist for its ranks.
Context make_context(const ModelConfig& config, ElementType compute,
                     const Split& split, comm::Communicator& communicator);

}  // namespace ringweave::models
