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
#include "ringweave/cli/interrupt.h"
#include "ringweave/comm/all_gather_json.h"
#include "ringweave/comm/executor.h"
#include "ringweave/planner/cost/attention_work.h"
#include "ringweave/planner/demand_bytes.h"
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

/// What a token takes: keys and values, or their gradients, of 64 fp32 each.
/// Schedules cut shards at tokens.
constexpr std::int64_t kTokenBytes = 512;

struct Options {
  std::optional<int> ranks;
  std::string strategy_list = "ring,multi_ring,direct,all_gather";
  std::vector<std::uint64_t> sizes = {8 << 20};
  std::string topology;
  std::string only;  ///< "forward", "backward"; empty: both
  int repeat = 5;
  bool json = false;
};

/// One pass of one strategy, by one rank.
struct Exchange {
  Program forward;
  std::optional<Program> backward;  ///< of this pass, if it is backward

  const Program& program() const { return backward ? *backward : forward; }
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

schedule::AttentionDemand demand_of(int ranks, std::int64_t shard_bytes) {
  const auto layout =
      schedule::Layout::contiguous(shard_bytes / kTokenBytes * ranks, ranks);
  return {layout, layout, schedule::Mask::full()};
}

Exchange compile(const schedule::Strategy& strategy,
                 const schedule::AttentionDemand& demand, Pass pass,
                 Rank rank) {
  const int strands = schedule::strand_count(strategy, demand.ranks());
  Exchange exchange;
  exchange.forward = schedule::compile(
      schedule::rank_part(strategy, demand, Pass::forward, rank), rank, demand,
      strands);
  if (pass == Pass::backward) {
    exchange.backward =
        schedule::compile(schedule::rank_part(strategy, demand, pass, rank),
                          rank, demand, strands, &exchange.forward);
  }
  return exchange;
}

/// Memory of zeros, so that sums stay 0.
comm::Buffer zeros(std::int64_t units) {
  comm::Buffer buffer =
      comm::allocate_buffer(static_cast<std::size_t>(units * kTokenBytes));
  std::fill_n(buffer.data, buffer.size, std::byte{0});
  return buffer;
}

/// Adds gradients that arrive, and computes nothing.
class Transfers final : public comm::Worker {
 public:
  explicit Transfers(const Exchange& exchange) : program_(exchange.program()) {
    for (const Payload payload : {Payload::kv, Payload::kv_grad}) {
      memory_[payload].unit_bytes = kTokenBytes;
      memory_[payload].packed = zeros(program_.packed_size);
      const auto size = program_.scratch_size.find(payload);
      if (size != program_.scratch_size.end()) {
        memory_[payload].scratch = zeros(size->second);
      }
    }
    memory_[Payload::kv].kept = zeros(exchange.forward.kept_size);
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
  explicit Bare(const Program& program) {
    std::int64_t units = 0;
    for (const Program::Message& message : program.messages) {
      units += message.place.size;
    }
    const comm::Buffer all = zeros(units);
    std::size_t at = 0;
    const auto bytes = [](const Program::Message& message) {
      return static_cast<std::size_t>(message.place.size * kTokenBytes);
    };
    // In the order of the steps, by which both ends match.
    for (const Program::Step& step : program.steps) {
      for (const int i : step.receives) {
        const Program::Message& message = program.messages[i];
        receives_.push_back({message.peer, all.slice(at, bytes(message))});
        at += bytes(message);
      }
      for (const int i : step.sends) {
        const Program::Message& message = program.messages[i];
        sends_.push_back({message.peer, all.slice(at, bytes(message))});
        at += bytes(message);
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

std::int64_t largest(const std::vector<std::int64_t>& numbers,
                     Communicator& communicator) {
  std::int64_t most = 0;
  for (const std::int64_t number : numbers) most = std::max(most, number);
  for (const std::string& theirs :
       communicator.all_gather(fmt::format("{}", most))) {
    most = std::max<std::int64_t>(most, std::stoll(theirs));
  }
  return most;
}

/// All runs of a case, on one rank; the reports of all ranks are equal.
ExchangeReport measure_case(const Options& options, const ExchangeCase& of,
                            const schedule::Strategy& strategy,
                            Communicator& communicator, bool processes) {
  const auto demand = demand_of(communicator.size(), of.shard_bytes);
  const Exchange exchange =
      compile(strategy, demand, of.pass, communicator.rank());
  const Program& program = exchange.program();
  Transfers transfers(exchange);
  const Bare bare(program);
  const auto by_schedule = [&] {
    comm::execute(program, transfers.memory(), transfers, communicator,
                  "bench exchange");
  };
  const auto all_at_once = [&] { bare.run(communicator); };
  ExchangeReport report{.of = of};
  std::vector<std::int64_t> sent;
  for (const auto& [to, payloads] : program.sent_units()) {
    std::int64_t units = 0;
    for (const auto& [payload, count] : payloads) units += count;
    sent.push_back(units * kTokenBytes);
  }
  report.busiest_link_bytes = largest(sent, communicator);
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
void predict(const topology::Topology& topology,
             const schedule::Strategy& strategy, ExchangeReport& report) {
  const auto demand = demand_of(topology.ranks(), report.of.shard_bytes);
  report.bound_seconds =
      planner::transfer_bound(topology, demand, report.of.pass,
                              static_cast<double>(kTokenBytes))
          .seconds;
  planner::Workload workload = planner::attention_workload(
      demand, schedule::strand_count(strategy, demand.ranks()), {}, {},
      report.of.pass, 0);
  workload.tile_work = {};
  workload.unit_bytes = {{Payload::kv, kTokenBytes},
                         {Payload::kv_grad, kTokenBytes}};
  report.predicted_seconds =
      sim::simulate(schedule::whole(strategy, demand, report.of.pass), topology,
                    workload)
          .seconds;
}

struct Job {
  Options options;
  int ranks = 1;
  std::vector<ExchangeCase> cases;
  std::map<std::string, schedule::Strategy> strategies;  ///< by name
  std::optional<topology::Topology> topology;
};

void run(const Job& job, const Context& context) {
  std::vector<ExchangeReport> reports;
  const bool processes = context.engine.is_group();
  context.engine.run(job.ranks, {}, [&](Communicator& communicator) {
    const bool first = communicator.rank() == context.engine.rank();
    for (const ExchangeCase& of : job.cases) {
      const ExchangeReport report =
          measure_case(job.options, of, job.strategies.at(of.strategy),
                       communicator, processes);
      if (first) reports.push_back(report);
    }
  });
  if (!context.leads()) return;
  for (ExchangeReport& report : reports) {
    if (!job.topology) break;
    predict(*job.topology, job.strategies.at(report.of.strategy), report);
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

/// Bytes that a rank allocates, at most about.
double memory_of(std::int64_t shard_bytes, int ranks) {
  constexpr double kCopies = 4;  // kept, scratch, and those of the bare one
  return kCopies * static_cast<double>(shard_bytes) * ranks;
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
  for (const std::string& name :
       schedule::split_strategy_names(options.strategy_list)) {
    const schedule::Strategy strategy =
        job->topology ? planner::strategy_on(*job->topology, name)
                      : schedule::strategy_from_name(name);
    schedule::strand_count(strategy, job->ranks);
    job->strategies[name] = strategy;
    for (const std::uint64_t size : options.sizes) {
      const auto bytes = static_cast<std::int64_t>(size);
      require(bytes >= kTokenBytes && bytes % kTokenBytes == 0,
              "{} got a shard of {} bytes; want a multiple of {}", kWhere,
              bytes, kTokenBytes);
      require_memory(
          memory_of(bytes, job->ranks) * context.engine.ranks_here(job->ranks),
          fmt::format("{} got a shard of {} bytes", kWhere, bytes));
      for (const Pass pass : passes_of(options)) {
        job->cases.push_back({name, pass, bytes});
      }
    }
  }
  context.facts = {
      {"command", "bench exchange"},
      {"strategies", options.strategy_list},
      {"sizes", fmt::format("{}", fmt::join(options.sizes, " "))},
      {"only", options.only},
      {"repeat", fmt::format("{}", options.repeat)},
      {"topology", job->topology ? to_json(*job->topology).dump() : "none"}};
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
  command
      ->add_option("--strategy", options->strategy_list,
                   "Strategies to time, with commas; with --topology also "
                   "rings and synthesised, which are searched for")
      ->type_name("NAME,...")
      ->capture_default_str();
  command
      ->add_option("--shard-bytes", options->sizes,
                   "Bytes of one rank's keys and values, with commas, such as "
                   "8388608 or 8MiB")
      ->delimiter(',')
      ->transform(CLI::AsSizeValue(false))
      ->type_name("SIZE,...")
      ->default_str("8388608");
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
