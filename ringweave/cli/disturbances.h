// What goes wrong in a simulation: the options of `ringweave simulate` for it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ringweave/sim/simulate.h"
#include "ringweave/topology/topology.h"

namespace ringweave::cli {

/// Begins every error of the command.
inline constexpr const char* kSimulateWhere = "[simulate]";

struct Disturbances {
  double jitter = 0;
  std::optional<std::uint64_t> seed;
  std::vector<std::string> stragglers;  ///< "RANK=FACTOR"
  std::vector<std::string> slow_links;  ///< "A,B=FACTOR"
  std::vector<std::string> fail_links;  ///< "A,B@SECONDS"
};

/// A and B are names or numbers of the topology's vertices. Throws
/// InvalidArgument naming the first that can't be read; whether the topology
/// has such a link is for the simulator to say.
sim::SimulationOptions simulation_options(const Disturbances& options,
                                          const topology::Topology& topology);

}  // namespace ringweave::cli
