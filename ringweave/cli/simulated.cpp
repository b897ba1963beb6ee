#include "ringweave/cli/simulated.h"

#include "ringweave/sim/simulate.h"

namespace ringweave::cli {

std::optional<double> simulated_seconds(const schedule::Schedule& schedule,
                                        const topology::Topology& topology,
                                        const planner::Workload& workload) {
  return sim::simulate(schedule, topology, workload).seconds;
}

}  // namespace ringweave::cli
