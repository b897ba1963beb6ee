// The simulator, for commands that also work without it.
#pragma once

#include <optional>

#include "ringweave/planner/cost/workload.h"
#include "ringweave/schedule/schedule.h"
#include "ringweave/topology/topology.h"

namespace ringweave::cli {

/// How long a pass takes by simulation; nothing where the simulator was not
/// built in. `schedule` is whole: all ranks' parts.
std::optional<double> simulated_seconds(const schedule::Schedule& schedule,
                                        const topology::Topology& topology,
                                        const planner::Workload& workload);

}  // namespace ringweave::cli
