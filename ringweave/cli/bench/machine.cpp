#include "ringweave/cli/bench/machine.h"

#include "ringweave/base/error.h"
#include "ringweave/cli/arguments.h"
#include "ringweave/cli/bench/exchange_runs.h"
#include "ringweave/topology/topology_file.h"

namespace ringweave::cli {

void add_machine_options(CLI::App& command, MachineOptions& options) {
  command
      .add_option(
          "--compute", options.compute,
          "real; or emulate: ranks wait for as long as computing takes by "
          "--device-table, so that more ranks than cores show what links do")
      ->check(one_of({"real", "emulate"}))
      ->capture_default_str();
  command
      .add_option(
          "--device-table", options.device_table,
          "How long computing takes, for --compute emulate or predictions: "
          "h100, custom:rate=1e11, or a file of bench attention "
          "--save-device-table")
      ->type_name("NAME|FILE");
  command
      .add_option("--topology", options.topology,
                  "Name or file of the machine that it runs on: adds the bare "
                  "messages' time and the bound, with --device-table the "
                  "predicted time; strategies may be rings and synthesised")
      ->type_name("NAME|FILE");
}

planner::DeviceTable Machine::timed() const {
  return device_table ? *device_table : no_compute();
}

std::map<std::string, std::string> Machine::facts() const {
  std::map<std::string, std::string> facts;
  if (device_table) facts["device_table"] = to_json(*device_table).dump();
  if (topology) facts["topology"] = to_json(*topology).dump();
  return facts;
}

Json to_json(const MachineOptions& options) {
  return {{"compute", options.compute},
          {"device_table", options.device_table},
          {"topology", options.topology}};
}

Machine read_machine(const MachineOptions& options, int ranks, ElementType type,
                     std::optional<int> threads, const char* where) {
  if (options.emulates()) {
    require(!options.device_table.empty(),
            "{} got --compute emulate without --device-table; want the table "
            "whose times ranks wait for",
            where);
    require(!threads,
            "{} got --threads {} with --compute emulate; want none, as nothing "
            "is computed",
            where, threads.value_or(0));
  } else {
    require(options.device_table.empty() || !options.topology.empty(),
            "{} got --device-table {} without --topology; want both, for "
            "predictions, or --compute emulate",
            where, options.device_table);
  }
  Machine machine{.options = options, .device_table = {}, .topology = {}};
  if (!options.device_table.empty()) {
    machine.device_table = planner::load_device_table(options.device_table);
    planner::check_dtype(*machine.device_table, type);
  }
  if (!options.topology.empty()) {
    machine.topology = topology::load_topology(options.topology);
    check_ranks(*machine.topology, options.topology, ranks, where);
  }
  return machine;
}

}  // namespace ringweave::cli
