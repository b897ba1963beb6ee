#include "ringweave/cli/bench/exchange_runs.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "ringweave/base/error.h"
#include "ringweave/base/memory.h"
#include "ringweave/cli/bench/processor_share.h"
#include "ringweave/cli/bench/spread.h"
#include "ringweave/cli/bench/transfers.h"
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
  const double alone = part.before_seconds + part.after_seconds;
  double sum = alone;
  double longest = 0;
  for (const double seconds : part.compute_seconds) {
    sum += seconds;
    longest = std::max(longest, seconds);
  }
  return {.seconds = comm::max_over_ranks(sum, communicator),
          .step_seconds = comm::max_over_ranks(longest, communicator),
          .alone_seconds = comm::max_over_ranks(alone, communicator)};
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
    transfers.run(communicator, "bench exchange");
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
  const device::Buffer out = zeros(kBytes);
  const device::Buffer in = zeros(kBytes);
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
  report.predicted_seconds = simulated_seconds(exchanged, topology);
  report.cost_model_seconds = exchanged.cost(topology);
  if (!report.emulated) return;
  report.emulated->steps = std::max(1, schedule.steps - 1);
  workload.tile_work = {};
  report.emulated->transfer_seconds =
      simulated_seconds(schedule, topology, workload);
}

}  // namespace

void check_ranks(const topology::Topology& topology, const std::string& name,
                 int ranks, const char* where) {
  require(topology.ranks() == ranks,
          "{} got {}, which has {} ranks, for {} ranks; want as many", where,
          name, topology.ranks(), ranks);
}

void check_memory(const std::vector<Subject>& subjects, int ranks_here,
                  const char* where) {
  for (const Subject& subject : subjects) {
    require_memory(memory_bytes(*subject.exchanged) * ranks_here,
                   fmt::format("{} got {} {}", where, subject.of.name,
                               schedule::name(subject.of.pass)));
  }
}

std::optional<double> simulated_seconds(const Exchanged& exchanged,
                                        const topology::Topology& topology) {
  const std::optional<double> seconds =
      simulated_seconds(exchanged.whole(), topology, exchanged.workload());
  if (!seconds) return std::nullopt;
  return exchanged.alone_seconds() + *seconds;
}

double bare_seconds(const Exchanged& mine, Communicator& group,
                    Communicator& whole, int repeat) {
  const Exchanged::Part part = mine.part(group.rank());
  const Bare bare(part.program, mine.unit_bytes());
  std::vector<double> seconds;
  for (int i = -1; i < repeat; ++i) {
    const Sample sample = measure(whole, [&] { bare.run(group); });
    const double slowest = comm::max_over_ranks(sample.seconds, whole);
    if (i >= 0) seconds.push_back(slowest);
    check_interrupted();
  }
  return spread(std::move(seconds)).median;
}

std::vector<double> bare_seconds(const comm::Engine& engine, int ranks,
                                 int repeat,
                                 const std::vector<Subject>& subjects) {
  std::vector<double> all;
  engine.run(ranks, {}, [&](Communicator& communicator) {
    for (const Subject& subject : subjects) {
      const double seconds =
          bare_seconds(*subject.exchanged, communicator, communicator, repeat);
      if (communicator.rank() == engine.rank()) all.push_back(seconds);
    }
  });
  return all;
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
