// What needs the simulator, in the Python package, which is without it.
#include "ringweave/cli/command.h"
#include "ringweave/cli/not_built_in.h"
#include "ringweave/cli/simulated.h"

namespace ringweave::cli {

void add_simulate(CLI::App& app, Context&) {
  add_not_built_in(app, "simulate",
                   "Run a schedule on a topology that need not exist",
                   "the Python package is without the simulator; build the "
                   "program from Ringweave's source (preset release)");
}

std::optional<double> simulated_seconds(const schedule::Schedule&,
                                        const topology::Topology&,
                                        const planner::Workload&) {
  return std::nullopt;
}

}  // namespace ringweave::cli
