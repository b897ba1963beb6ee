// The least time in which links bring every rank what a pass makes it need.
#pragma once

#include "ringweave/planner/cost/machine.h"
#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/schedule.h"

namespace ringweave::planner {

/// Seconds of a softmax pass's transfers that no schedule of this layout beats;
/// 0 where no bound is known. `unit_bytes`: of a token's keys and values in
/// forward, of their gradients in backward (demand_bytes.h).
double exchange_bound(const Machine& machine,
                      const schedule::AttentionDemand& demand,
                      schedule::Pass pass, double unit_bytes);

}  // namespace ringweave::planner
