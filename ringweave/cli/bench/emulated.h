// --compute emulate of `ringweave bench`: ranks wait as long as a device would
// compute.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "ringweave/cli/bench/bench.h"
#include "ringweave/cli/bench/exchange_runs.h"
#include "ringweave/planner/cost/device.h"
#include "ringweave/topology/topology.h"

namespace ringweave::cli {

/// As given.
struct EmulationOptions {
  std::string compute = "real";  ///< or "emulate"
  std::string device;            ///< what planner::load_device takes
  std::string topology;  ///< what topology::load_topology takes; may be empty

  bool wanted() const { return compute != "real"; }
};

/// `topology`: what that option is for.
void add_emulation_options(CLI::App& command, EmulationOptions& options,
                           const std::string& topology);

/// Throws InvalidArgument, which starts with `where`.
void check_device_given(const EmulationOptions& options, const char* where);

/// What they name, read.
struct Emulation {
  EmulationOptions options;
  planner::Device device;
  std::optional<topology::Topology> topology;

  std::map<std::string, std::string> facts() const;  ///< what the files say
};

/// nullopt: not wanted. Throws InvalidArgument, which starts with `where`, for
/// what can't be used: also for options without effect.
std::optional<Emulation> read_emulation(const EmulationOptions& options,
                                        const BenchOptions& bench,
                                        const char* where);

/// Runs and prints the subjects of `ringweave bench NAME`; `own` has the fields
/// of the benchmark's own options.
void run_emulated(const std::string& name, const BenchOptions& options,
                  const Json& own, const Emulation& emulation,
                  const std::vector<Subject>& subjects, const Context& context);

}  // namespace ringweave::cli
