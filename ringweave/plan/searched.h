// Strategies that are searched for in a topology, for PlanRequest::extra.
#pragma once

#include <vector>

#include "ringweave/plan/machine.h"
#include "ringweave/plan/strategy.h"

namespace ringweave::plan {

/// Ranks up to which the search is quick enough to be made unasked.
inline constexpr int kSearchedRanks = 16;

/// Whether a plan should search without being asked: no regular fabric, and not
/// too large.
bool worth_searching(const Machine& machine);

/// Rings that share no link, and routes on trees, as far as there are any.
/// Depends on the machine only; up to kSearchedRanks ranks seconds at most.
/// Throws InvalidArgument for a symbolic fabric and for more ranks than
/// topology/tree_packing.h takes.
std::vector<Strategy> searched_strategies(const Machine& machine);

}  // namespace ringweave::plan
