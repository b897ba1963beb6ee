// What a plan is asked for.
#pragma once

#include <optional>
#include <vector>

#include "ringweave/planner/cost/device_table.h"
#include "ringweave/planner/cost/machine.h"
#include "ringweave/planner/cost/model_shape.h"
#include "ringweave/planner/search/searched.h"
#include "ringweave/schedule/layout/layout.h"
#include "ringweave/schedule/mask/mask.h"
#include "ringweave/schedule/strategy/strategy.h"

namespace ringweave::planner {

struct PlanRequest {
  Machine machine;
  ModelShape shape;
  schedule::Layout layout = schedule::Layout::zigzag(1, 1);
  schedule::Mask mask = schedule::Mask::causal();
  DeviceTable device_table;
  std::optional<double> memory_limit_bytes = {};  ///< of a rank
  double message_overhead_seconds = 0;
  /// What was searched for in this topology, to be compared with the others.
  std::vector<Searched> searched = {};
};

}  // namespace ringweave::planner
