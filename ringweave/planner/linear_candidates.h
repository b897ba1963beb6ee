// What every exchange of linear layers' states costs per layer, and the bounds
// on it.
#pragma once

#include "ringweave/planner/choice.h"
#include "ringweave/planner/cost/loads.h"
#include "ringweave/planner/plan_request.h"

namespace ringweave::planner {

/// By the formulas of linear_cost.h. Unsorted, none chosen; empty without
/// linear layers.
/// `machine` is the request's.
LayerPlan linear_candidates(const PlanRequest& request,
                            const MachineLoads& machine);

}  // namespace ringweave::planner
