// Times of strategies by formula, for any number of ranks: no schedule is made.
// The formulas hold if every rank has as much to do as every other: under full
// masks, and under causal ones on zigzag and striped layouts. Under a causal
// mask every rank is taken to send all its keys, as the one at the busiest link
// does (docs/algorithms.md).
#pragma once

#include <optional>

#include "ringweave/planner/cost/loads.h"
#include "ringweave/schedule/strategy/strategy.h"

namespace ringweave::planner {

/// What each rank has to do in a pass.
struct BalancedPass {
  schedule::Pass pass = schedule::Pass::forward;
  double kv_bytes = 0;       ///< of a shard
  double grad_bytes = 0;     ///< of a shard's gradients
  double own_seconds = 0;    ///< of the tile of one's own block
  double block_seconds = 0;  ///< of the tile of another rank's
  double message_overhead_seconds = 0;
  /// least_need() of the layout and the mask (planner/cost/balance.h).
  double least_need = 1;
};

/// A pass whose buffers are known too, in bytes of a rank: slots, and apart
/// from them what forward retains for backward.
struct ClosedForm {
  PassCost cost;
  double slot_bytes = 0;
  double retained_bytes = 0;
};

/// nullopt for strategies that have no form: rings and synthesised ones on a
/// symbolic fabric. Throws as strand_count().
std::optional<ClosedForm> closed_form(const schedule::Strategy& strategy,
                                      const Loads& loads,
                                      const BalancedPass& pass);

}  // namespace ringweave::planner
