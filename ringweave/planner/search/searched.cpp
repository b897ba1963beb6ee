#include "ringweave/planner/search/searched.h"

#include <memory>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/planner/search/synthesis.h"
#include "ringweave/topology/ring_search.h"
#include "ringweave/topology/tree_packing.h"

namespace ringweave::planner {
namespace {

schedule::Strategy rings_on(const topology::Topology& topology) {
  return {.kind = schedule::StrategyKind::rings,
          .rings = std::make_shared<const std::vector<topology::Ring>>(
              topology::disjoint_rings(topology).rings)};
}

schedule::Strategy trees_on(const topology::Topology& topology) {
  return {
      .kind = schedule::StrategyKind::synthesised,
      .trees = std::make_shared<const schedule::Trees>(synthesise(topology))};
}

}  // namespace

bool worth_searching(const Machine& machine) {
  return !machine.fabric && machine.ranks() > 1 &&
         machine.ranks() <= kSearchedRanks;
}

std::vector<Searched> searched_strategies(const Machine& machine) {
  require(machine.ranks() <= topology::kMaxPackedRanks,
          "[plan] got a search for schedules on {} ranks; want at most {}",
          machine.ranks(), topology::kMaxPackedRanks);
  std::vector<Searched> all;
  if (machine.ranks() == 1) return all;
  for (const char* name : {"rings", "synthesised"}) {
    Searched searched{.name = name, .strategy = {}};
    try {
      searched.strategy = strategy_on(*machine.topology, name);
    } catch (const NoSolution& error) {
      searched.why_not = error.what();
    }
    all.push_back(std::move(searched));
  }
  return all;
}

schedule::Strategy strategy_on(const topology::Topology& topology,
                               const std::string& name) {
  if (name == "rings") return rings_on(topology);
  if (name == "synthesised") return trees_on(topology);
  return schedule::strategy_from_name(name);
}

}  // namespace ringweave::planner
