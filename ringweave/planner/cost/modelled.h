// Softmax strategies that no code here runs yet, by formula, so that a plan
// says what they would give (docs/algorithms.md, "Cost model").
#pragma once

#include <string>
#include <vector>

#include "ringweave/planner/cost/loads.h"
#include "ringweave/planner/cost/model_shape.h"

namespace ringweave::planner {

/// One layer's attention, the same on every rank.
struct EvenAttention {
  ModelShape shape;
  double tokens = 0;           ///< of a shard
  double forward_seconds = 0;  ///< all tiles of a rank
  double backward_seconds = 0;
  double message_overhead_seconds = 0;
};

struct ModelledCost {
  std::string name;
  PassCost forward;
  PassCost backward;
  bool has_backward = true;
  double buffer_bytes = 0;   ///< of a rank, beside its own keys and values
  std::string why_not = {};  ///< not empty: it does not apply, and why
};

/// Ulysses, Ulysses inside the nodes with a ring over them (2-D), and pass-Q.
std::vector<ModelledCost> modelled_costs(const EvenAttention& attention,
                                         const Loads& loads);

}  // namespace ringweave::planner
