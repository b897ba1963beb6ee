#include "ringweave/cli/bench/exchange_runs.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <thread>

#include <fmt/format.h>

#include "ringweave/base/error.h"
#include "ringweave/base/memory.h"
#include "ringweave/cli/bench/processor_share.h"
#include "ringweave/cli/interrupt.h"
#include "ringweave/cli/simulated.h"
#include "ringweave/comm/all_gather_json.h"
#include "ringweave/comm/executor.h"

namespace ringweave::cli {
namespace {

using comm::Communicator;
using schedule::Payload;
using schedule::Program;

/// What one rank measured of one run.
struct Sample {
  double seconds = 0;
  double waiting_seconds = 0;
  double processor_share = 0;
};

/// The largest sleep until somebody may interrupt.
constexpr std::chrono::milliseconds kNap{50};

comm::Buffer zeros(std::int64_t bytes) {
  comm::Buffer buffer = comm::allocate_buffer(static_cast<std::size_t>(bytes));
  std::fill_n(buffer.data, buffer.size, std::byte{0});
  return buffer;
}

/// Of one payload's memories, in units.
struct Sizes {
  std::int64_t packed = 0;
  std::int64_t kept = 0;
  std::int64_t scratch = 0;
};

Sizes sizes_of(const Exchanged::Part& part, Payload payload) {
  const auto scratch = part.program.scratch_size.find(payload);
  return {.packed = part.program.packed_size,
          .kept = part.kept_size,
          .scratch =
              scratch == part.program.scratch_size.end() ? 0 : scratch->second};
}

/// Adds gradients that arrive, and only takes the time of what is computed.
class Transfers final : public comm::Worker {
 public:
  Transfers(const Exchanged::Part& part, const schedule::UnitBytes& units)
      : program_(part.program),
        compute_seconds_(part.compute_seconds),
        memory_(zeroed_memory(part, units)) {}

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
  void compute(int step) override {
    if (compute_seconds_.empty()) return;
    const auto end = comm::Clock::now() +
                     std::chrono::duration_cast<comm::Clock::duration>(
                         std::chrono::duration<double>(compute_seconds_[step]));
    for (auto now = comm::Clock::now(); now < end; now = comm::Clock::now()) {
      std::this_thread::sleep_until(std::min(end, now + kNap));
      check_interrupted();
    }
  }

 private:
  const Program& program_;
  const std::vector<double>& compute_seconds_;
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

template <typename Act>
Sample measure(Communicator& communicator, const Act& act) {
  communicator.barrier();
  const double waited = communicator.traffic().waiting_seconds();
  const ProcessorTime processor;
  act();
  const ProcessorTime::Spent spent = processor.spent();
  return {.seconds = spent.seconds,
          .waiting_seconds = communicator.traffic().waiting_seconds() - waited,
          .processor_share = spent.share};
}

ExchangeRun gather(const Sample& mine, Communicator& communicator,
                   bool processes) {
  ExchangeRun run;
  double waited = 0;
  for (const Json& sample : comm::all_gather_json(
           {mine.seconds, mine.waiting_seconds}, communicator)) {
    run.seconds = std::max(run.seconds, sample[0].get<double>());
    waited += sample[1].get<double>();
  }
  run.waiting_share = waited / communicator.size() / run.seconds;
  run.processor_share =
      busiest_share(mine.processor_share, processes, communicator);
  return run;
}

/// Of all ranks.
std::vector<ExchangeReport::Link> gather_links(
    const std::map<Rank, std::int64_t>& sent, Communicator& communicator) {
  Json mine = Json::array();
  for (const auto& [to, bytes] : sent) mine.push_back({to, bytes});
  std::vector<ExchangeReport::Link> links;
  Rank from = 0;
  for (const Json& theirs : comm::all_gather_json(mine, communicator)) {
    for (const Json& link : theirs) {
      links.push_back({.from = from,
                       .to = link[0].get<Rank>(),
                       .bytes = link[1].get<std::int64_t>()});
    }
    ++from;
  }
  return links;
}

EmulatedCompute gather_compute(const Exchanged::Part& part,
                               Communicator& communicator) {
  double sum = 0;
  double longest = 0;
  for (const double seconds : part.compute_seconds) {
    sum += seconds;
    longest = std::max(longest, seconds);
  }
  return {.seconds = comm::max_over_ranks(sum, communicator),
          .step_seconds = comm::max_over_ranks(longest, communicator)};
}

/// All runs of a case, on one rank; the reports of all ranks are equal.
ExchangeReport measure_case(int repeat, const Subject& subject,
                            Communicator& communicator, bool processes) {
  const Exchanged::Part part = subject.exchanged->part(communicator.rank());
  const schedule::UnitBytes units = subject.exchanged->unit_bytes();
  Transfers transfers(part, units);
  const bool emulates = !part.compute_seconds.empty();
  // Bare messages leave computing out, and with it what is to be compared.
  std::optional<Bare> bare;
  if (!emulates) bare.emplace(part.program, units);
  const auto by_schedule = [&] {
    comm::execute(part.program, transfers.memory(), transfers, communicator,
                  "bench exchange");
  };
  const auto all_at_once = [&] { bare->run(communicator); };
  ExchangeReport report{.of = subject.of};
  report.links = gather_links(part.program.sent_bytes(units), communicator);
  if (emulates) report.emulated = gather_compute(part, communicator);
  // Once to warm up.
  for (int i = -1; i < repeat; ++i) {
    const ExchangeRun run =
        gather(measure(communicator, by_schedule), communicator, processes);
    if (i >= 0) report.runs.push_back(run);
    check_interrupted();
    if (emulates) continue;
    const ExchangeRun other =
        gather(measure(communicator, all_at_once), communicator, processes);
    check_interrupted();
    if (i >= 0) report.bare_seconds.push_back(other.seconds);
  }
  return report;
}

/// Each rank sends to the one `shift` places on, as all do; so no link is used
/// twice. Returns the bytes per second that came.
double receive_rate(int shift, Communicator& communicator) {
  constexpr std::int64_t kBytes = 1 << 20;
  // The best of several, since other work can only take from a link: more of
  // them on a fast one, where a moment without a core is a large part.
  constexpr int kTries = 3;
  constexpr int kMostTries = 100;
  constexpr double kSeconds = 0.2;
  const int ranks = communicator.size();
  const comm::Buffer out = zeros(kBytes);
  const comm::Buffer in = zeros(kBytes);
  const std::vector<comm::Receive> receives = {
      {(communicator.rank() + ranks - shift) % ranks, in}};
  const std::vector<comm::Send> sends = {
      {(communicator.rank() + shift) % ranks, out}};
  double least = std::numeric_limits<double>::infinity();
  int tries = kTries;
  for (int i = 0; i < tries; ++i) {
    communicator.barrier();
    const auto start = comm::Clock::now();
    const comm::Works works = communicator.post({receives, sends});
    communicator.wait(*works.front(), "rates of links");
    const std::chrono::duration<double> seconds = comm::Clock::now() - start;
    communicator.wait(*works.back(), "rates of links");
    least = std::min(least, seconds.count());
    if (i + 1 != kTries) continue;
    // The same on all ranks.
    const double slowest = comm::max_over_ranks(least, communicator);
    tries = static_cast<int>(
        std::clamp<double>(kSeconds / slowest, kTries, kMostTries));
  }
  return kBytes / least;
}

/// Of processes.
Links measure_links(Communicator& communicator) {
  Links links;
  const ProcessorTime processor;
  const int ranks = communicator.size();
  for (int shift = 1; shift < ranks; ++shift) {
    Rank to = 0;
    for (const Json& rate : comm::all_gather_json(
             receive_rate(shift, communicator), communicator)) {
      links.rates.push_back({.from = (to + ranks - shift) % ranks,
                             .to = to,
                             .bytes_per_second = rate.get<double>()});
      ++to;
    }
  }
  links.busy =
      busiest_share(processor.spent().share, true, communicator) > kBusy;
  return links;
}

/// What a topology says of a case.
void predict(const topology::Topology& topology, const Exchanged& exchanged,
             ExchangeReport& report) {
  const schedule::Schedule schedule = exchanged.whole();
  planner::Workload workload = exchanged.workload();
  // 0: nothing travels.
  const double bound = exchanged.bound(topology);
  if (bound > 0) report.bound_seconds = bound;
  report.predicted_seconds = simulated_seconds(schedule, topology, workload);
  report.cost_model_seconds = exchanged.cost(topology);
  if (!report.emulated) return;
  report.emulated->steps = std::max(1, schedule.steps - 1);
  workload.tile_work = {};
  report.emulated->transfer_seconds =
      simulated_seconds(schedule, topology, workload);
}

}  // namespace

comm::ProgramMemory zeroed_memory(const Exchanged::Part& part,
                                  const schedule::UnitBytes& units) {
  comm::ProgramMemory memory;
  for (const auto& [payload, unit] : units) {
    const Sizes sizes = sizes_of(part, payload);
    memory[payload] = {.unit_bytes = static_cast<std::size_t>(unit),
                       .packed = zeros(unit * sizes.packed),
                       .scratch = zeros(unit * sizes.scratch),
                       .kept = zeros(unit * sizes.kept)};
  }
  return memory;
}

void check_ranks(const topology::Topology& topology, const std::string& name,
                 int ranks, const char* where) {
  require(topology.ranks() == ranks,
          "{} got {}, which has {} ranks, for {} ranks; want as many", where,
          name, topology.ranks(), ranks);
}

void check_memory(const std::vector<Subject>& subjects, int ranks_here,
                  const char* where) {
  for (const Subject& subject : subjects) {
    const Exchanged::Part part = subject.exchanged->part(0);
    double bytes = 0;
    for (const auto& [payload, unit] : subject.exchanged->unit_bytes()) {
      const Sizes sizes = sizes_of(part, payload);
      bytes += static_cast<double>(unit) *
               static_cast<double>(sizes.packed + sizes.kept + sizes.scratch);
    }
    require_memory(bytes * ranks_here,
                   fmt::format("{} got {} {}", where, subject.of.name,
                               schedule::name(subject.of.pass)));
  }
}

ExchangeRuns run_exchanges(const comm::Engine& engine, int ranks, int repeat,
                           const std::vector<Subject>& subjects,
                           const std::optional<topology::Topology>& topology) {
  ExchangeRuns runs;
  engine.run(ranks, {}, [&](Communicator& communicator) {
    const bool first = communicator.rank() == engine.rank();
    if (engine.is_group()) runs.links = measure_links(communicator);
    for (const Subject& subject : subjects) {
      const ExchangeReport report =
          measure_case(repeat, subject, communicator, engine.is_group());
      if (first) runs.reports.push_back(report);
    }
  });
  for (std::size_t i = 0; engine.rank() == 0 && topology && i < subjects.size();
       ++i) {
    predict(*topology, *subjects[i].exchanged, runs.reports[i]);
  }
  return runs;
}

}  // namespace ringweave::cli
