#include "ringweave/plan/linear_candidates.h"

#include <limits>
#include <utility>
#include <vector>

#include "ringweave/plan/balance.h"
#include "ringweave/plan/linear_cost.h"

namespace ringweave::plan {
namespace {

/// What all-gather of states runs as.
std::vector<Strategy> gather_strategies(int nodes) {
  std::vector<Strategy> strategies = {{.kind = StrategyKind::all_gather},
                                      {.kind = StrategyKind::ring},
                                      {.kind = StrategyKind::multi_ring},
                                      {.kind = StrategyKind::direct}};
  if (nodes > 1) {
    strategies.push_back({.kind = StrategyKind::hierarchical, .nodes = nodes});
  }
  return strategies;
}

Candidate candidate_of(TransportCost cost, double own_bytes) {
  Candidate candidate{
      .name = std::move(cost.name),
      .verdict = cost.executable ? Verdict::slower : Verdict::not_executable,
      .reason = cost.why_not,
      .forward = std::move(cost.forward),
      .backward = std::move(cost.backward),
      .memory_bytes = own_bytes + cost.buffer_bytes,
      .by_formula = true};
  if (!cost.why_not.empty()) candidate.verdict = Verdict::impossible;
  return candidate;
}

}  // namespace

LayerPlan linear_candidates(const PlanRequest& request,
                            const MachineLoads& machine) {
  const ModelShape& shape = request.shape;
  LayerPlan plan{.layers = shape.linear_layers()};
  if (plan.layers == 0) return plan;
  const LinearCase linear{
      .shape = shape,
      .tokens = longest_shard(request.layout),
      .segments = request.layout.kind() == Layout::Kind::zigzag ? 2 : 1,
      .message_overhead_seconds = request.message_overhead_seconds};
  const Loads& loads = machine.loads();
  const bool alone = loads.ranks() == 1;
  const double in = alone ? 1 : loads.best_in_rate();
  const auto pass_bound = [&](bool backward) {
    return linear_bound(linear, request.device,
                        alone ? std::numeric_limits<double>::infinity() : in,
                        backward);
  };
  plan.forward_bound = pass_bound(false);
  plan.backward_bound = pass_bound(true);
  plan.exchange_bound =
      alone
          ? 0
          : static_cast<double>(shape.state_numbers() * shape.sum_bytes()) / in;
  plan.own_bytes = linear.rank_bytes();
  for (TransportCost& cost :
       transport_costs(linear, gather_strategies(request.machine.nodes()),
                       loads, request.device)) {
    plan.candidates.push_back(candidate_of(std::move(cost), plan.own_bytes));
  }
  return plan;
}

}  // namespace ringweave::plan
