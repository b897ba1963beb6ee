// What every softmax strategy costs per layer, and the bounds on it.
#pragma once

#include "ringweave/planner/choice.h"
#include "ringweave/planner/cost/loads.h"
#include "ringweave/planner/plan_request.h"

namespace ringweave::planner {

/// Executable strategies are priced event by event (cost.h), or by formula
/// (closed_form.h) where that would take too long; modelled ones (modelled.h)
/// by formula. Unsorted, none chosen; empty without softmax layers.
/// `machine` is the request's.
LayerPlan softmax_candidates(const PlanRequest& request,
                             const MachineLoads& machine);

}  // namespace ringweave::planner
