// `ringweave bench attention | linear` by their messages: with computing that
// is emulated, and beside computing that is real.
#pragma once

#include <string>
#include <vector>

#include "ringweave/cli/bench/bench.h"
#include "ringweave/cli/bench/exchange_runs.h"
#include "ringweave/cli/bench/machine.h"

namespace ringweave::cli {

/// Throws as the other read_machine(). --threads 1 is none.
Machine read_machine(const MachineOptions& options, const BenchOptions& bench,
                     const char* where);

/// Runs and prints `ringweave bench NAME --compute emulate`; `own` has the
/// fields of the benchmark's own options.
void run_emulated(const std::string& name, const BenchOptions& options,
                  const Json& own, const Machine& machine,
                  const std::vector<Subject>& subjects, const Context& context);

/// Adds to each report what its messages take alone: bare, their bound, and
/// with a device table the predicted time. `subjects` have the reports' names
/// and are timed by that table. Nothing without a topology.
void add_messages_alone(const BenchOptions& options, const Machine& machine,
                        const std::vector<Subject>& subjects,
                        const Context& context,
                        std::vector<BenchReport>& reports);

}  // namespace ringweave::cli
