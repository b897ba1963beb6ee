#include "ringweave/cli/bench/emulated.h"

#include <fmt/format.h>

#include "ringweave/base/error.h"
#include "ringweave/cli/bench/exchange_report.h"

namespace ringweave::cli {

Machine read_machine(const MachineOptions& options, const BenchOptions& bench,
                     const char* where) {
  require(bench.device == kHostDevice ||
              (!options.emulates() && options.topology.empty()),
          "{} got --device {} with --compute emulate or --topology; want cpu: "
          "their messages are of the host's memory",
          where, bench.device);
  return read_machine(
      options, bench.ranks, element_type_from_name(bench.dtype),
      bench.threads == 1 ? std::nullopt : std::optional(bench.threads), where);
}

void run_emulated(const std::string& name, const BenchOptions& options,
                  const Json& own, const Machine& machine,
                  const std::vector<Subject>& subjects,
                  const Context& context) {
  const ExchangeRuns runs =
      run_exchanges(context.engine, options.ranks, options.repeat, subjects,
                    machine.topology);
  if (!context.leads()) return;
  if (options.json) {
    Json json = facts_of(name, options);
    json.erase("threads");
    json.update(own);
    json.update(to_json(runs));
    fmt::print("{}\n", json.dump());
    return;
  }
  fmt::print(
      "{}\nEMULATED compute: ranks wait as long as {} would compute\n{} ranks, "
      "medians of {}\n\n{}",
      title_of(name, options), machine.options.device_table, options.ranks,
      options.repeat, text(runs));
}

void add_messages_alone(const BenchOptions& options, const Machine& machine,
                        const std::vector<Subject>& subjects,
                        const Context& context,
                        std::vector<BenchReport>& reports) {
  if (!machine.topology) return;
  const std::vector<double> bare =
      bare_seconds(context.engine, options.ranks, options.repeat, subjects);
  if (!context.leads()) return;
  const auto add = [](std::optional<double>& sum, double seconds) {
    sum = sum.value_or(0) + seconds;
  };
  for (BenchReport& report : reports) {
    for (std::size_t i = 0; i < subjects.size(); ++i) {
      if (subjects[i].of.name != report.name) continue;
      const Exchanged& exchanged = *subjects[i].exchanged;
      add(report.alone.bare_seconds, bare[i]);
      add(report.alone.bound_seconds, exchanged.bound(*machine.topology));
      if (!machine.device_table) continue;
      if (const auto seconds =
              simulated_seconds(exchanged, *machine.topology)) {
        add(report.alone.predicted_seconds, *seconds);
      }
    }
  }
}

}  // namespace ringweave::cli
