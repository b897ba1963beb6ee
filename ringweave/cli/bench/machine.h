// The machine that a benchmark runs on, or is to be timed as: --compute,
// --device-table and --topology of `ringweave bench`.
#pragma once

#include <map>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include "ringweave/base/element_type.h"
#include "ringweave/base/json.h"
#include "ringweave/planner/cost/device_table.h"
#include "ringweave/topology/topology.h"

namespace ringweave::cli {

/// As given.
struct MachineOptions {
  std::string compute = "real";  ///< or "emulate"
  std::string device_table;      ///< what planner::load_device_table takes
  std::string topology;          ///< what topology::load_topology takes

  bool emulates() const { return compute != "real"; }
};

/// {"compute", "device_table", "topology"}
Json to_json(const MachineOptions& options);

void add_machine_options(CLI::App& command, MachineOptions& options);

/// What they name, read.
struct Machine {
  MachineOptions options;
  std::optional<planner::DeviceTable> device_table;
  std::optional<topology::Topology> topology;

  bool emulates() const { return options.emulates(); }
  /// Whether anything is told beside what is measured.
  bool asked() const { return emulates() || topology; }
  /// Without a device table what is computed takes no time.
  planner::DeviceTable timed() const;
  std::map<std::string, std::string> facts() const;  ///< what the files say
};

/// `threads`: the option, if it was given. Throws InvalidArgument, which starts
/// with `where`, for what can't be used, and for options without effect.
Machine read_machine(const MachineOptions& options, int ranks, ElementType type,
                     std::optional<int> threads, const char* where);

}  // namespace ringweave::cli
