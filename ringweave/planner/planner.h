// Predicts every strategy and exchange for a model on a topology, and picks.
//
//   const Planned planned =
//       make_plan({.machine = load_machine("dgx-1"),
//                  .shape = shape,
//                  .layout = Layout::zigzag(65536, 8),
//                  .device_table = load_device_table("v100")});
//   const Candidate& best =
//       planned.softmax.candidates[planned.softmax.chosen];
#pragma once

#include "ringweave/planner/choice.h"
#include "ringweave/planner/plan_request.h"

namespace ringweave::planner {

struct Planned {
  LayerPlan softmax;
  LayerPlan linear;
  /// Attention of all layers, forward and backward, by the chosen ones.
  double step_seconds = 0;
};

/// Throws InvalidArgument if layout and machine have different ranks, for a
/// layout that linear layers can't use, and for symbolic fabrics under masks
/// and layouts that give ranks unequal work; NoSolution if nothing executable
/// fits in memory.
Planned make_plan(const PlanRequest& request);

}  // namespace ringweave::planner
