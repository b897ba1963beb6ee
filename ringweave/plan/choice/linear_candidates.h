// What every transport of linear layers' states costs per layer, and the bounds
// on it.
#pragma once

#include "ringweave/plan/choice/choice.h"
#include "ringweave/plan/choice/plan_request.h"
#include "ringweave/plan/cost/loads.h"

namespace ringweave::plan {

/// By the formulas of linear_cost.h. Unsorted, none chosen; empty without
/// linear layers.
/// `machine` is the request's.
LayerPlan linear_candidates(const PlanRequest& request,
                            const MachineLoads& machine);

}  // namespace ringweave::plan
