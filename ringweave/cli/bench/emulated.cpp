#include "ringweave/cli/bench/emulated.h"

#include <fmt/format.h>

#include "ringweave/base/error.h"
#include "ringweave/cli/arguments.h"
#include "ringweave/cli/bench/exchange_report.h"
#include "ringweave/topology/topology_file.h"

namespace ringweave::cli {
namespace {

/// Without emulated compute what is only for it has no effect.
void check_real(const EmulationOptions& options, const char* where) {
  const auto check = [&](const char* flag, const std::string& value) {
    require(value.empty(),
            "{} got {} {} with --compute real; want --compute emulate with it",
            where, flag, value);
  };
  check("--device", options.device);
  check("--topology", options.topology);
}

}  // namespace

void add_emulation_options(CLI::App& command, EmulationOptions& options,
                           const std::string& topology) {
  command
      .add_option("--compute", options.compute,
                  "real; or emulate: ranks wait for as long as --device would "
                  "compute, so that more ranks than cores show what links do")
      ->check(one_of({"real", "emulate"}))
      ->capture_default_str();
  command
      .add_option("--device", options.device,
                  "Device of --compute emulate: h100, custom:rate=1e11, or a "
                  "file of bench attention --save-device-table")
      ->type_name("NAME|FILE");
  command.add_option("--topology", options.topology, topology)
      ->type_name("NAME|FILE");
}

void check_device_given(const EmulationOptions& options, const char* where) {
  require(!options.device.empty(),
          "{} got --compute emulate without --device; want the device whose "
          "times ranks wait for",
          where);
}

std::map<std::string, std::string> Emulation::facts() const {
  std::map<std::string, std::string> facts = {
      {"device", to_json(device).dump()}};
  if (topology) facts["topology"] = to_json(*topology).dump();
  return facts;
}

std::optional<Emulation> read_emulation(const EmulationOptions& options,
                                        const BenchOptions& bench,
                                        const char* where) {
  if (!options.wanted()) {
    check_real(options, where);
    return std::nullopt;
  }
  check_device_given(options, where);
  require(bench.threads == 1,
          "{} got --threads {} with --compute emulate; want none, as nothing "
          "is computed",
          where, bench.threads);
  Emulation emulation{.options = options,
                      .device = planner::load_device(options.device),
                      .topology = std::nullopt};
  planner::check_dtype(emulation.device, element_type_from_name(bench.dtype));
  if (!options.topology.empty()) {
    emulation.topology = topology::load_topology(options.topology);
    check_ranks(*emulation.topology, options.topology, bench.ranks, where);
  }
  return emulation;
}

void run_emulated(const std::string& name, const BenchOptions& options,
                  const Json& own, const Emulation& emulation,
                  const std::vector<Subject>& subjects,
                  const Context& context) {
  const ExchangeRuns runs =
      run_exchanges(context.engine, options.ranks, options.repeat, subjects,
                    emulation.topology);
  if (!context.leads()) return;
  if (options.json) {
    Json json = facts_of(name, options);
    json.erase("threads");
    json.update(own);
    json["compute"] = "emulate";
    json["device"] = emulation.options.device;
    json["topology"] = emulation.options.topology;
    json.update(to_json(runs));
    fmt::print("{}\n", json.dump());
    return;
  }
  fmt::print(
      "{}\nEMULATED compute: ranks wait as long as {} would compute\n{} ranks, "
      "medians of {}\n\n{}",
      title_of(name, options), emulation.options.device, options.ranks,
      options.repeat, text(runs));
}

}  // namespace ringweave::cli
