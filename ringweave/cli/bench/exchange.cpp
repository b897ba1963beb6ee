// ringweave bench exchange: the transfers of schedules, without what is
// computed meanwhile, beside the same messages posted all at once.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ringweave/base/error.h"
#include "ringweave/base/memory.h"
#include "ringweave/cli/arguments.h"
#include "ringweave/cli/bench/exchange_report.h"
#include "ringweave/cli/bench/exchange_runs.h"
#include "ringweave/cli/bench/exchanged.h"
#include "ringweave/cli/command.h"
#include "ringweave/planner/search/searched.h"
#include "ringweave/schedule/strategy/strategy.h"
#include "ringweave/topology/topology_file.h"

namespace ringweave::cli {
namespace {

using schedule::Pass;

constexpr const char* kBenchExchangeWhere = "[bench exchange]";

struct Options {
  std::optional<int> ranks;
  std::string strategy_list = "ring,multi_ring,direct,all_gather";
  std::vector<std::uint64_t> shard_bytes = {8 << 20};
  std::string exchange_list;  ///< instead of strategies; may be empty
  std::vector<std::uint64_t> state_bytes = {1 << 20};
  std::string mask = "causal";  ///< of linear layers
  std::string topology;
  std::string only;  ///< "forward", "backward"; empty: both
  int repeat = 5;
  bool json = false;
};

std::vector<Pass> passes_of(const Options& options) {
  std::vector<Pass> passes;
  if (options.only != schedule::name(Pass::backward)) {
    passes.push_back(Pass::forward);
  }
  if (options.only != schedule::name(Pass::forward)) {
    passes.push_back(Pass::backward);
  }
  return passes;
}

struct Job {
  Options options;
  int ranks = 1;
  std::vector<Subject> subjects;
  std::optional<topology::Topology> topology;
};

void run(const Job& job, const Context& context) {
  const ExchangeRuns runs =
      run_exchanges(context.engine, job.ranks, job.options.repeat, job.subjects,
                    job.topology);
  if (!context.leads()) return;
  if (!job.options.json) {
    fmt::print("{}, medians of {}\n\n{}", context.ranks_text(job.ranks),
               job.options.repeat, text(runs));
    return;
  }
  Json json = {{"bench", "exchange"},
               {"ranks", job.ranks},
               {"processes", context.engine.is_group()},
               {"topology", job.options.topology},
               {"repeat", job.options.repeat}};
  if (!job.options.exchange_list.empty()) json["mask"] = job.options.mask;
  json.update(to_json(runs));
  fmt::print("{}\n", json.dump());
}

/// Throws InvalidArgument unless all are whole units that fit in memory.
std::vector<std::int64_t> checked(const std::vector<std::uint64_t>& sizes,
                                  std::int64_t unit, const char* what,
                                  int ranks, int ranks_here) {
  std::vector<std::int64_t> all;
  for (const std::uint64_t size : sizes) {
    require(size >= static_cast<std::uint64_t>(unit) &&
                size <= std::numeric_limits<std::int64_t>::max() &&
                size % static_cast<std::uint64_t>(unit) == 0,
            "{} got a {} of {} bytes; want a multiple of {}, at least once",
            kBenchExchangeWhere, what, size, unit);
    const auto bytes = static_cast<std::int64_t>(size);
    constexpr double kCopies = 4;  // kept, scratch, and those of the bare one
    require_memory(kCopies * static_cast<double>(bytes) * ranks * ranks_here,
                   fmt::format("{} got a {} of {} bytes", kBenchExchangeWhere,
                               what, bytes));
    all.push_back(bytes);
  }
  check_distinct(all, "bytes", kBenchExchangeWhere);
  return all;
}

/// `make`: what is exchanged in a pass, of so many bytes.
template <typename Make>
void add_subjects(Job& job, const std::string& name,
                  const std::vector<std::int64_t>& sizes, const Make& make) {
  for (const std::int64_t bytes : sizes) {
    for (const Pass pass : passes_of(job.options)) {
      job.subjects.push_back({{name, pass, bytes}, make(pass, bytes)});
    }
  }
}

void add_keys(Job& job, int ranks_here) {
  const auto names = schedule::split_strategy_names(job.options.strategy_list);
  check_distinct(names, "--strategy", kBenchExchangeWhere);
  for (const std::string& name : names) {
    const schedule::Strategy strategy =
        job.topology ? planner::strategy_on(*job.topology, name)
                     : schedule::strategy_from_name(name);
    schedule::strand_count(strategy, job.ranks);
    const auto sizes = checked(job.options.shard_bytes, kTokenBytes, "shard",
                               job.ranks, ranks_here);
    add_subjects(job, name, sizes, [&](Pass pass, std::int64_t bytes) {
      return exchanged_keys(strategy, job.ranks, pass, bytes);
    });
  }
}

void add_states(Job& job, int ranks_here) {
  const auto names = schedule::split_strategy_names(job.options.exchange_list);
  check_distinct(names, "--exchange", kBenchExchangeWhere);
  for (const std::string& name : names) {
    const auto exchange = schedule::state_exchange_from_name(name);
    exchange->strands(job.ranks);
    const auto sizes = checked(job.options.state_bytes, kStateRowBytes, "state",
                               job.ranks, ranks_here);
    add_subjects(job, name, sizes, [&](Pass pass, std::int64_t bytes) {
      return exchanged_states(exchange, job.ranks, job.options.mask == "causal",
                              pass, bytes);
    });
  }
}

void prepare(const Options& options, Context& context) {
  check_repeat(options.repeat, kBenchExchangeWhere);
  auto job = std::make_shared<Job>();
  job->options = options;
  if (!options.topology.empty()) {
    job->topology = topology::load_topology(options.topology);
  }
  job->ranks =
      context.ranks(options.ranks, job->topology ? job->topology->ranks() : 2,
                    kBenchExchangeWhere);
  if (job->topology) {
    check_ranks(*job->topology, options.topology, job->ranks,
                kBenchExchangeWhere);
  }
  require(job->ranks >= 2, "{} got {} rank; want at least 2, which exchange",
          kBenchExchangeWhere, job->ranks);
  const int ranks_here = context.engine.ranks_here(job->ranks);
  if (options.exchange_list.empty()) {
    add_keys(*job, ranks_here);
  } else {
    add_states(*job, ranks_here);
  }
  context.facts = {
      {"command", "bench exchange"},
      {"strategies", options.strategy_list},
      {"shard bytes", fmt::format("{}", fmt::join(options.shard_bytes, " "))},
      {"exchanges", options.exchange_list},
      {"state bytes", fmt::format("{}", fmt::join(options.state_bytes, " "))},
      {"mask", options.mask},
      {"only", options.only},
      {"repeat", fmt::format("{}", options.repeat)},
      {"topology",
       job->topology ? to_json(*job->topology).dump() : std::string("none")}};
  context.job = [job, &context] { run(*job, context); };
}

}  // namespace

void add_bench_exchange(CLI::App& bench, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* command = bench.add_subcommand(
      "exchange",
      "The transfers of schedules alone, beside the same messages at once");
  command
      ->add_option("--ranks", options->ranks,
                   "Ranks, as threads of this process; default: the "
                   "topology's, or 2 (under a launcher: its processes)")
      ->type_name("N");
  CLI::Option* strategy = command->add_option(
      "--strategy", options->strategy_list,
      "Strategies to time, with commas; with --topology also rings and "
      "synthesised, which are searched for");
  strategy->type_name("NAME,...")->capture_default_str();
  const auto sizes = [&](const char* flag, std::vector<std::uint64_t>& bytes,
                         const char* text, const char* fallback) {
    return command->add_option(flag, bytes, text)
        ->delimiter(',')
        ->transform(CLI::AsSizeValue(false))
        ->type_name("SIZE,...")
        ->default_str(fallback);
  };
  CLI::Option* shards = sizes(
      "--shard-bytes", options->shard_bytes,
      "Bytes of one rank's keys and values, with commas, such as 8388608 or "
      "8MiB",
      "8388608");
  CLI::Option* exchange = command->add_option(
      "--exchange", options->exchange_list,
      "Let states of linear layers travel instead, with commas: chain, "
      "pipelined_chain, sharded_scan, log_step, all_gather, "
      "all_gather:multi_ring, ...");
  exchange->type_name("NAME,...")->excludes(strategy)->excludes(shards);
  sizes("--state-bytes", options->state_bytes,
        "Bytes of one state, with commas", "1048576")
      ->needs(exchange);
  command
      ->add_option("--mask", options->mask,
                   "Of linear layers: causal, or full, where all ranks need "
                   "the sum of all states")
      ->check(CLI::IsMember({"causal", "full"}))
      ->type_name("MASK")
      ->capture_default_str()
      ->needs(exchange);
  command
      ->add_option("--topology", options->topology,
                   "Built-in name or file of the machine that it runs on: adds "
                   "the bound of all schedules and predicted times")
      ->type_name("NAME|FILE");
  command
      ->add_option("--only", options->only,
                   "forward or backward; default: both")
      ->check(CLI::IsMember({"forward", "backward"}))
      ->type_name("PASS");
  command->add_option("--repeat", options->repeat, "Pairs of measurements")
      ->type_name("N")
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print one JSON object");
  command->callback([options, &context] { prepare(*options, context); });
}

}  // namespace ringweave::cli
