// What a model needs to know about the split of its sequences over ranks.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/attention/attention.h"
#include "ringweave/base/element_type.h"
#include "ringweave/comm/communicator.h"
#include "ringweave/config/model_config.h"
#include "ringweave/models/cache.h"
#include "ringweave/models/recompute.h"
#include "ringweave/models/rope.h"
#include "ringweave/models/rows.h"
#include "ringweave/schedule/exchange/state_exchange.h"
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
  bool backward = true;  ///< false: plans are for forward passes alone
};

/// One rank's view of a split; shared by all layers, and by all steps whose
/// sequences are one document each.
struct Context {
  Split split;
  comm::Communicator* communicator = nullptr;      ///< outlives the context and
                                                   ///< every autograd graph
  schedule::Mask mask = schedule::Mask::causal();  ///< of rows that are one
                                                   ///< document
  at::Tensor positions;          ///< (tokens of this rank) int64
  RopeTables rope;               ///< undefined if no layer turns
  Plans plans;                   ///< of rows that are one document
  std::vector<RowPlans> rows;    ///< empty: all rows are
  std::vector<Borders> borders;  ///< of each row; empty: none has any
  attention::AttentionOptions attention_options;
  /// Called in backward, on its thread and at the same place among the messages
  /// of all ranks, from the last layer to the first, when the gradients of a
  /// layer's parameters and of those behind it are accumulated (but of a tied
  /// embedding).
  std::function<void(std::int64_t layer)> layer_done;

  /// With a cache: what is done with it, and the cache of the layer that the
  /// context is given to.
  const CacheStep* step = nullptr;
  LayerCache* cache = nullptr;

  const schedule::Layout& layout() const { return split.layout; }
};

/// Plans what the model's layers need. Throws InvalidArgument if the layout has
/// other ranks than the communicator or is striped while there are linear
/// layers; NoSolution if the strategy does not exist for its ranks.
Context make_context(const ModelConfig& config, ElementType compute,
                     const Split& split, comm::Communicator& communicator);

/// The context of tokens that follow `past` ones of their sequence: RoPE turns
/// them by their positions in it.
Context behind(const Context& context, const ModelConfig& config,
               ElementType compute, std::int64_t past);

/// The context of tokens at these positions, each of a sequence of its own, and
/// all on this rank.
Context at_positions(const ModelConfig& config, ElementType compute,
                     const std::vector<std::int64_t>& positions,
                     comm::Communicator& communicator);

/// The context of a batch in which row i has documents with borders[i]: tokens
/// see their own document alone. Every rank must use the same. Throws
/// InvalidArgument for borders that are not sorted or not within the sequence,
/// and for documents in the linear layers of an encoder.
Context with_documents(const Context& context, std::vector<Borders> borders);

}  // namespace ringweave::models
