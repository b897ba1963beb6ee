// Strategies that are searched for in a topology: rings and synthesised.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ringweave/planner/cost/machine.h"
#include "ringweave/schedule/strategy/strategy.h"
#include "ringweave/topology/topology.h"

namespace ringweave::planner {

/// Ranks up to which the search is quick enough to be made unasked.
inline constexpr int kSearchedRanks = 16;

/// Whether a plan should search without being asked: no regular fabric, and not
/// too large.
bool worth_searching(const Machine& machine);

/// What a search for one strategy came to.
struct Searched {
  std::string name;
  std::optional<schedule::Strategy> strategy;  ///< none: there is none
  std::string why_not = {};                    ///< then why
};

/// Rings that share no link, and trees; empty for one rank. Depends
/// on the machine only; up to kSearchedRanks ranks seconds at most. Throws
/// InvalidArgument for a symbolic fabric and for more ranks than
/// topology/tree_packing.h takes.
std::vector<Searched> searched_strategies(const Machine& machine);

/// The strategy of that name; "rings" and "synthesised" are searched for in the
/// topology. Throws as strategy_from_name(), topology::disjoint_rings() and
/// synthesise().
schedule::Strategy strategy_on(const topology::Topology& topology,
                               const std::string& name);

}  // namespace ringweave::planner
