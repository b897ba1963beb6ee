#include "ringweave/plan/searched.h"

#include <memory>

#include "ringweave/base/error.h"
#include "ringweave/plan/synthesis.h"
#include "ringweave/topology/ring_search.h"
#include "ringweave/topology/tree_packing.h"

namespace ringweave::plan {

bool worth_searching(const Machine& machine) {
  return !machine.fabric && machine.ranks() > 1 &&
         machine.ranks() <= kSearchedRanks;
}

std::vector<Strategy> searched_strategies(const Machine& machine) {
  require(machine.ranks() <= topology::kMaxPackedRanks,
          "[plan] got a search for schedules on {} ranks; want at most {}",
          machine.ranks(), topology::kMaxPackedRanks);
  std::vector<Strategy> strategies;
  if (machine.ranks() == 1) return strategies;
  try {
    strategies.push_back(
        {.kind = StrategyKind::rings,
         .rings = std::make_shared<const std::vector<topology::Ring>>(
             topology::disjoint_rings(*machine.topology).rings)});
  } catch (const NoSolution&) {
    // No ring follows its links; trees still may.
  }
  strategies.push_back({.kind = StrategyKind::synthesised,
                        .routes = std::make_shared<const Routes>(
                            synthesise(*machine.topology))});
  return strategies;
}

}  // namespace ringweave::plan
