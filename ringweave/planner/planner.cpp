#include "ringweave/planner/planner.h"

#include "ringweave/base/error.h"
#include "ringweave/planner/cost/balance.h"
#include "ringweave/planner/linear_candidates.h"
#include "ringweave/planner/softmax_candidates.h"

namespace ringweave::planner {
namespace {

void check(const PlanRequest& request) {
  planner::check(request.shape, "model", request.layout.tokens());
  check_dtype(request.device_table, request.shape.type);
  const int n = request.machine.ranks();
  require(request.layout.ranks() == n,
          "[plan] got a layout of {} ranks for a topology of {}; want the same",
          request.layout.ranks(), n);
  if (request.shape.linear_layers() > 0) request.layout.check_runs("plan");
  require(
      request.machine.topology || is_balanced(request.layout, request.mask),
      "[plan] got {} ranks, more than {}, and a layout and a mask that give "
      "them unequal work; want shards of one length, no window and no "
      "documents, and for a causal mask the layout zigzag or striped",
      n, kMaxExpandedRanks);
  constexpr double kMaxBytes = 1e18;
  const double memory = request.memory_limit_bytes.value_or(1);
  require(memory > 0 && memory <= kMaxBytes,
          "[plan] got a memory limit of {} bytes; want more than 0 and at most "
          "{}",
          memory, kMaxBytes);
  constexpr double kMaxOverhead = 1;
  const double overhead = request.message_overhead_seconds;
  require(overhead >= 0 && overhead <= kMaxOverhead,
          "[plan] got a message overhead of {} s; want 0 … {}", overhead,
          kMaxOverhead);
}

}  // namespace

Planned make_plan(const PlanRequest& request) {
  check(request);
  const MachineLoads machine(request.machine);
  Planned planned{.softmax = softmax_candidates(request, machine),
                  .linear = linear_candidates(request, machine)};
  choose(planned.softmax, request.memory_limit_bytes, "strategy");
  choose(planned.linear, request.memory_limit_bytes, "exchange");
  for (const LayerPlan* plan : {&planned.softmax, &planned.linear}) {
    if (plan->layers == 0) continue;
    planned.step_seconds += static_cast<double>(plan->layers) *
                            plan->candidates[plan->chosen].seconds();
  }
  return planned;
}

}  // namespace ringweave::planner
