// What a plan is asked for.
#pragma once

#include <optional>
#include <vector>

#include "ringweave/plan/cost/device.h"
#include "ringweave/plan/cost/machine.h"
#include "ringweave/plan/cost/model_shape.h"
#include "ringweave/plan/strategy/strategy.h"
#include "ringweave/plan/tokens/layout.h"
#include "ringweave/plan/tokens/mask.h"

namespace ringweave::plan {

struct PlanRequest {
  Machine machine;
  ModelShape shape;
  Layout layout = Layout::zigzag(1, 1);
  Mask mask = Mask::causal();
  Device device;
  std::optional<double> memory_limit_bytes = {};  ///< of a rank
  double message_overhead_seconds = 0;
  /// Strategies made for this topology, to be compared with the others.
  std::vector<Strategy> extra = {};
};

}  // namespace ringweave::plan
