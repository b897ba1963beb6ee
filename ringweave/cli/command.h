// What a command is given, and the commands there are.
//
// A command adds its options to the parser. When it was chosen, its callback
// checks everything that can be checked without peers, and leaves the work as
// a job: a group of ranks compares outcomes in between.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include "ringweave/base/json.h"
#include "ringweave/cli/cli.h"
#include "ringweave/comm/engine.h"

namespace ringweave::cli {

struct Context {
  comm::Engine engine;
  /// Set by the chosen command's callback.
  std::function<void()> job;
  /// What must be equal on all ranks of a group, by name: "config" → its text.
  std::map<std::string, std::string> facts;
  /// How long a group of ranks waits for one that has not prepared yet.
  std::chrono::milliseconds start_time_out = comm::TimeOuts().start;

  /// Whether this process prints results.
  bool leads() const { return engine.rank() == 0; }
  /// The group's size, or else what --ranks `asked` for, or `otherwise`. Throws
  /// InvalidArgument, starting with `where`, if a group has another size or
  /// there would be too many threads.
  int ranks(std::optional<int> asked, int otherwise, const char* where) const;
  /// "4 ranks, a process each", or that they are threads.
  std::string ranks_text(int ranks) const;
};

/// In the order of --help. A command that needs a part that was not built in is
/// there too, and says so when it is called.
void add_train(CLI::App& app, Context& context);
void add_export(CLI::App& app, Context& context);
void add_generate(CLI::App& app, Context& context);
void add_bench(CLI::App& app, Context& context);
void add_topology(CLI::App& app, Context& context);
void add_plan(CLI::App& app, Context& context);
void add_simulate(CLI::App& app, Context& context);

/// Commands below `topology`; called by add_topology.
void add_topology_show(CLI::App& topology, Context& context);
void add_topology_probe(CLI::App& topology, Context& context);

/// Below `bench`; the only one that needs no torch.
void add_bench_exchange(CLI::App& bench, Context& context);

/// Name → version of what the program was built with.
Json versions();

/// Of the headers it was built with, or "not built in"; asked by versions().
std::string torch_version();

}  // namespace ringweave::cli
