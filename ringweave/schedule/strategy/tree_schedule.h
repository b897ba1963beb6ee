// Schedules along given trees (trees.h).
//
// A part takes those hops of its tree that lead to a rank that needs it.
// Forward, steps + 1 steps: hops as given, each rank computes a part in the
// step after the hop that brought it. Every part stays where it came: (n-1)C
// of slots, whether for backward or not.
//
// Backward, steps + 1 steps: nothing but gradients travels. Forward's last step
// comes first: the hop of step h is undone by one of step (steps - h), after
// which the parent adds. A rank computes its part just before the first of its
// children's gradients arrives; a rank that has no use for the part starts with
// the first one instead. (n-1)C of gradients, besides one staging slot per
// gradient that arrives in the same step.
#pragma once

#include <optional>

#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/schedule_builder.h"
#include "ringweave/schedule/strategy/trees.h"

namespace ringweave::schedule {

/// The part of one rank, or the whole schedule; trees.steps + 1 steps.
/// `trees` are checked, and `demand` has the same ranks. `retain` false:
/// forward keeps nothing.
void emit_trees(const Trees& trees, const Demand& demand, Pass pass,
                std::optional<Rank> rank, bool retain, ScheduleSink& sink);

/// Forward only, payload summary, no tiles, a slot for every (owner, strand);
/// see rank_part_of_summaries().
void emit_tree_summaries(const Trees& trees, const Demand& demand,
                         std::optional<Rank> rank, ScheduleSink& sink);

}  // namespace ringweave::schedule
