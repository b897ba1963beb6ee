// ringweave bench exchange: the transfers of schedules, without what is
// computed meanwhile, beside the same messages posted all at once.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include "ringweave/base/error.h"
#include "ringweave/base/memory.h"
#include "ringweave/cli/bench_exchange_report.h"
#include "ringweave/cli/command.h"
#include "ringweave/cli/exchanged.h"
#include "ringweave/cli/interrupt.h"
#include "ringweave/comm/all_gather_json.h"
#include "ringweave/comm/executor.h"
#include "ringweave/planner/search/searched.h"
#include "ringweave/schedule/strategy/strategy.h"
#include "ringweave/sim/simulate.h"
#include "ringweave/topology/topology_file.h"

namespace ringweave::cli {
namespace {

using comm::Communicator;
using schedule::Pass;
using schedule::Payload;
using schedule::Program;

constexpr const char* kWhere = "[bench exchange]";

struct Options {
  std::optional<int> ranks;
  std::string strategy_list = "ring,multi_ring,direct,all_gather";
  std::vector<std::uint64_t> shard_bytes = {8 << 20};
  std::string exchange_list;  ///< instead of strategies; may be empty
  std::vector<std::uint64_t> state_bytes = {1 << 20};
  std::string topology;
  std::string only;  ///< "forward", "backward"; empty: both
  int repeat = 5;
  bool json = false;
};

/// What one rank measured of one run.
struct Sample {
  double seconds = 0;
  double waiting_seconds = 0;
  double processor_seconds = 0;  ///< of the process
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

/// Memory of zeros, so that sums stay 0.
comm::Buffer zeros(std::int64_t bytes) {
  comm::Buffer buffer = comm::allocate_buffer(static_cast<std::size_t>(bytes));
  std::fill_n(buffer.data, buffer.size, std::byte{0});
  return buffer;
}

/// Adds gradients that arrive, and computes nothing.
class Transfers final : public comm::Worker {
 public:
  Transfers(const Exchanged::Part& part, const schedule::UnitBytes& units)
      : program_(part.program) {
    for (const auto& [payload, unit] : units) {
      memory_[payload].unit_bytes = static_cast<std::size_t>(unit);
      memory_[payload].packed = zeros(unit * program_.packed_size);
      memory_[payload].kept = zeros(unit * part.kept_size);
      const auto size = program_.scratch_size.find(payload);
      if (size != program_.scratch_size.end()) {
        memory_[payload].scratch = zeros(unit * size->second);
      }
    }
  }

  const comm::ProgramMemory& memory() const { return memory_; }

  void arrived(int step) override {
    for (const Program::Sum& sum : program_.steps[step].sums) {
      const comm::Buffer from = memory_[Payload::kv_grad].at(sum.from);
      const comm::Buffer to = memory_[Payload::kv_grad].at(sum.to);
      const auto* more = reinterpret_cast<const float*>(from.data);
      auto* sums = reinterpret_cast<float*>(to.data);
      for (std::size_t i = 0; i < to.size / sizeof(float); ++i) {
        sums[i] += more[i];
      }
    }
  }
  void compute(int) override {}

 private:
  const Program& program_;
  comm::ProgramMemory memory_;
};

/// The messages of a program, posted all at once: none waits for another, and
/// none shares memory with another.
class Bare {
 public:
  Bare(const Program& program, const schedule::UnitBytes& units) {
    const auto bytes = [&](const Program::Message& message) {
      return message.place.size * units.at(message.payload);
    };
    std::int64_t sum = 0;
    for (const Program::Message& message : program.messages) {
      sum += bytes(message);
    }
    const comm::Buffer all = zeros(sum);
    std::size_t at = 0;
    const auto memory_of = [&](const Program::Message& message) {
      const auto size = static_cast<std::size_t>(bytes(message));
      at += size;
      return all.slice(at - size, size);
    };
    // In the order of the steps, by which both ends match.
    for (const Program::Step& step : program.steps) {
      for (const int i : step.receives) {
        const Program::Message& message = program.messages[i];
        receives_.push_back({message.peer, memory_of(message)});
      }
      for (const int i : step.sends) {
        const Program::Message& message = program.messages[i];
        sends_.push_back({message.peer, memory_of(message)});
      }
    }
  }

  void run(Communicator& communicator) const {
    const comm::Works works = communicator.post({receives_, sends_});
    for (const auto& work : works) communicator.wait(*work, "bare exchange");
  }

 private:
  std::vector<comm::Receive> receives_;
  std::vector<comm::Send> sends_;
};

double processor_seconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

template <typename Act>
Sample measure(Communicator& communicator, const Act& act) {
  communicator.barrier();
  const double waited = communicator.traffic().waiting_seconds;
  const double worked = processor_seconds();
  const auto start = comm::Clock::now();
  act();
  const std::chrono::duration<double> seconds = comm::Clock::now() - start;
  return {.seconds = seconds.count(),
          .waiting_seconds = communicator.traffic().waiting_seconds - waited,
          .processor_seconds = processor_seconds() - worked};
}

/// `processes`: whether each rank is one; else all are threads of one.
ExchangeRun gather(const Sample& mine, Communicator& communicator,
                   bool processes) {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  const double cores = std::max(1u, std::thread::hardware_concurrency());
  ExchangeRun run;
  double waited = 0;
  std::map<std::string, double> worked;  // by host, in its cores · seconds
  for (const Json& sample : comm::all_gather_json(
           {mine.seconds, mine.waiting_seconds, mine.processor_seconds / cores,
            std::string(host.data())},
           communicator)) {
    run.seconds = std::max(run.seconds, sample[0].get<double>());
    waited += sample[1].get<double>();
    const auto share = sample[2].get<double>();
    double& all = worked[sample[3].get<std::string>()];
    all = processes ? all + share : std::max(all, share);
  }
  run.waiting_share = waited / communicator.size() / run.seconds;
  for (const auto& [name, share] : worked) {
    run.processor_share = std::max(run.processor_share, share / run.seconds);
  }
  return run;
}

/// Over all ranks.
std::int64_t largest(std::int64_t mine, Communicator& communicator) {
  std::int64_t most = 0;
  for (const Json& theirs : comm::all_gather_json(mine, communicator)) {
    most = std::max(most, theirs.get<std::int64_t>());
  }
  return most;
}

/// What is measured, and what it is called.
struct Subject {
  ExchangeCase of;
  std::shared_ptr<const Exchanged> exchanged;
};

/// All runs of a case, on one rank; the reports of all ranks are equal.
ExchangeReport measure_case(const Options& options, const Subject& subject,
                            Communicator& communicator, bool processes) {
  const Exchanged::Part part = subject.exchanged->part(communicator.rank());
  const schedule::UnitBytes units = subject.exchanged->unit_bytes();
  Transfers transfers(part, units);
  const Bare bare(part.program, units);
  const auto by_schedule = [&] {
    comm::execute(part.program, transfers.memory(), transfers, communicator,
                  "bench exchange");
  };
  const auto all_at_once = [&] { bare.run(communicator); };
  ExchangeReport report{.of = subject.of};
  std::int64_t busiest = 0;
  for (const auto& [to, bytes] : part.program.sent_bytes(units)) {
    busiest = std::max(busiest, bytes);
  }
  report.busiest_link_bytes = largest(busiest, communicator);
  // Once to warm up.
  for (int i = -1; i < options.repeat; ++i) {
    const ExchangeRun run =
        gather(measure(communicator, by_schedule), communicator, processes);
    const ExchangeRun other =
        gather(measure(communicator, all_at_once), communicator, processes);
    check_interrupted();
    if (i < 0) continue;
    report.runs.push_back(run);
    report.bare_seconds.push_back(other.seconds);
  }
  return report;
}

/// What a topology says of a case.
void predict(const topology::Topology& topology, const Exchanged& exchanged,
             ExchangeReport& report) {
  report.bound_seconds = exchanged.bound(topology);
  report.predicted_seconds =
      sim::simulate(exchanged.whole(), topology, exchanged.workload()).seconds;
}

struct Job {
  Options options;
  int ranks = 1;
  std::vector<Subject> subjects;
  std::optional<topology::Topology> topology;
};

void run(const Job& job, const Context& context) {
  std::vector<ExchangeReport> reports;
  const bool processes = context.engine.is_group();
  context.engine.run(job.ranks, {}, [&](Communicator& communicator) {
    const bool first = communicator.rank() == context.engine.rank();
    for (const Subject& subject : job.subjects) {
      const ExchangeReport report =
          measure_case(job.options, subject, communicator, processes);
      if (first) reports.push_back(report);
    }
  });
  if (!context.leads()) return;
  for (std::size_t i = 0; job.topology && i < reports.size(); ++i) {
    predict(*job.topology, *job.subjects[i].exchanged, reports[i]);
  }
  if (!job.options.json) {
    fmt::print(
        "{} {}, medians of {}\n\n{}", job.ranks,
        processes ? "ranks, a process each" : "ranks, threads of one process",
        job.options.repeat, table(reports));
    return;
  }
  Json rows = Json::array();
  for (const ExchangeReport& report : reports) rows.push_back(to_json(report));
  fmt::print("{}\n", Json{{"bench", "exchange"},
                          {"ranks", job.ranks},
                          {"processes", processes},
                          {"topology", job.options.topology},
                          {"repeat", job.options.repeat},
                          {"cases", std::move(rows)}}
                         .dump());
}

/// Throws InvalidArgument unless all are whole units that fit in memory.
std::vector<std::int64_t> checked(const std::vector<std::uint64_t>& sizes,
                                  std::int64_t unit, const char* what,
                                  int ranks, int ranks_here) {
  std::vector<std::int64_t> all;
  for (const std::uint64_t size : sizes) {
    const auto bytes = static_cast<std::int64_t>(size);
    require(bytes >= unit && bytes % unit == 0,
            "{} got a {} of {} bytes; want a multiple of {}", kWhere, what,
            bytes, unit);
    constexpr double kCopies = 4;  // kept, scratch, and those of the bare one
    require_memory(kCopies * static_cast<double>(bytes) * ranks * ranks_here,
                   fmt::format("{} got a {} of {} bytes", kWhere, what, bytes));
    all.push_back(bytes);
  }
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
  for (const std::string& name :
       schedule::split_strategy_names(job.options.strategy_list)) {
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
  for (const std::string& name :
       schedule::split_strategy_names(job.options.exchange_list)) {
    const auto exchange = schedule::state_exchange_from_name(name);
    exchange->strands(job.ranks);
    const auto sizes = checked(job.options.state_bytes, kStateRowBytes, "state",
                               job.ranks, ranks_here);
    add_subjects(job, name, sizes, [&](Pass pass, std::int64_t bytes) {
      return exchanged_states(exchange, job.ranks, pass, bytes);
    });
  }
}

void prepare(const Options& options, Context& context) {
  require(options.repeat >= 1, "{} got --repeat {}; want at least 1", kWhere,
          options.repeat);
  auto job = std::make_shared<Job>();
  job->options = options;
  if (!options.topology.empty()) {
    job->topology = topology::load_topology(options.topology);
  }
  job->ranks = context.ranks(
      options.ranks, job->topology ? job->topology->ranks() : 2, kWhere);
  require(!job->topology || job->topology->ranks() == job->ranks,
          "{} got {}, which has {} ranks, for {} ranks; want as many", kWhere,
          options.topology, job->topology ? job->topology->ranks() : 0,
          job->ranks);
  require(job->ranks >= 2, "{} got {} rank; want at least 2, which exchange",
          kWhere, job->ranks);
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
      "all_gather, all_gather:multi_ring, ...");
  exchange->type_name("NAME,...")->excludes(strategy)->excludes(shards);
  sizes("--state-bytes", options->state_bytes,
        "Bytes of one state, with commas", "1048576")
      ->needs(exchange);
  command
      ->add_option("--topology", options->topology,
                   "Built-in name or file of the machine that it runs on: adds "
                   "the bound of all schedules and the simulator's time")
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
