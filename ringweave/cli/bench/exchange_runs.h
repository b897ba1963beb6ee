// Runs what Exchanged describes on the ranks there are, beside the same
// messages posted all at once.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ringweave/cli/bench/exchange_report.h"
#include "ringweave/cli/bench/exchanged.h"
#include "ringweave/comm/engine.h"
#include "ringweave/topology/topology.h"

namespace ringweave::cli {

/// What is measured, and what it is called.
struct Subject {
  ExchangeCase of;
  std::shared_ptr<const Exchanged> exchanged;
};

/// Throws InvalidArgument, which starts with `where`, unless the topology
/// called `name` has as many ranks.
void check_ranks(const topology::Topology& topology, const std::string& name,
                 int ranks, const char* where);

/// Throws InvalidArgument, which starts with `where`, if `ranks_here` ranks
/// can't have what a subject takes in this machine's memory.
void check_memory(const std::vector<Subject>& subjects, int ranks_here,
                  const char* where);

/// By the simulator, with what is computed; nothing where there is none.
std::optional<double> simulated_seconds(const Exchanged& exchanged,
                                        const topology::Topology& topology);

/// Median seconds of `repeat` exchanges of the same messages, posted all at
/// once and without computing, after one to warm up. `mine`: of this rank's
/// messages, by `group`, which may be a part of the `whole` whose slowest rank
/// counts. The same on all ranks of `whole`, each of which calls it.
double bare_seconds(const Exchanged& mine, comm::Communicator& group,
                    comm::Communicator& whole, int repeat);
/// Of each subject.
std::vector<double> bare_seconds(const comm::Engine& engine, int ranks,
                                 int repeat,
                                 const std::vector<Subject>& subjects);

/// Runs each subject once to warm up, then `repeat` times, on the ranks of this
/// process; those of a group of processes measure its links first. With a
/// topology the leading process adds bounds and predictions.
ExchangeRuns run_exchanges(const comm::Engine& engine, int ranks, int repeat,
                           const std::vector<Subject>& subjects,
                           const std::optional<topology::Topology>& topology);

}  // namespace ringweave::cli
