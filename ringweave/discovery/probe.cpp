#include "ringweave/discovery/probe.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "ringweave/base/error.h"

namespace ringweave::discovery {
namespace {

constexpr std::int64_t kSmallBytes = 8;
constexpr int kRoundTrips = 4;  ///< of which a latency is the mean
/// Of the time, for what needs no knowledge of groups.
constexpr double kFlatShare = 0.8;

constexpr const char* kOperation = "probe";

/// One thing to measure: a pattern at a size, or a latency.
struct Task {
  Pattern pattern;
  std::int64_t bytes = 0;
  bool ping_pong = false;  ///< of the only pair
};

/// One rank's part of all measurements.
class Prober {
 public:
  Prober(comm::Communicator& communicator, const ProbeOptions& options)
      : communicator_(communicator),
        options_(options),
        start_(comm::Clock::now()),
        outgoing_(options.sizes.back()),
        incoming_(options.sizes.back() * (communicator.size() - 1)) {}

  /// The rounds of `tasks` that fit into `seconds` from the beginning, each
  /// with a time per task. The same on all ranks.
  std::vector<std::vector<double>> rounds(const std::vector<Task>& tasks,
                                          const char* what, double seconds);

 private:
  bool leads() const { return communicator_.rank() == 0; }
  void note(const std::string& text) const {
    if (leads() && options_.note) options_.note(text);
  }
  double elapsed() const {
    return std::chrono::duration<double>(comm::Clock::now() - start_).count();
  }
  double now() const { return communicator_.transport().seconds(); }
  void wait(comm::Work& work) { communicator_.wait(work, kOperation); }
  void send(Rank to, std::span<std::byte> bytes) {
    wait(*communicator_.send(to, device::borrowed(bytes)));
  }
  void receive(Rank from, std::span<std::byte> bytes) {
    wait(*communicator_.receive(from, device::borrowed(bytes)));
  }

  bool gate(double seconds);
  std::optional<std::vector<double>> round(const std::vector<Task>& tasks,
                                           double seconds);
  double ping_pong(Rank from, Rank to);
  double transfer(const Pattern& pattern, std::int64_t bytes);

  comm::Communicator& communicator_;
  const ProbeOptions& options_;
  const comm::Clock::time_point start_;
  std::vector<std::byte> outgoing_;
  std::vector<std::byte> incoming_;  ///< a slice per sender
};

/// Returns when every rank is there. Whether there is time left: rank 0's clock
/// decides for all.
bool Prober::gate(double seconds) {
  std::array<std::byte, 1> word{};
  if (!leads()) {
    send(0, word);
    std::array<std::byte, 1> answer{};
    receive(0, answer);
    return answer[0] != std::byte{0};
  }
  if (options_.poll) options_.poll();
  std::vector<std::byte> ready(communicator_.size());
  comm::Works works;
  for (Rank rank = 1; rank < communicator_.size(); ++rank) {
    works.push_back(communicator_.receive(
        rank, device::borrowed(std::span(ready).subspan(rank, 1))));
  }
  for (const auto& work : works) wait(*work);
  works.clear();
  const bool go = elapsed() < seconds;
  word[0] = std::byte{go};
  for (Rank rank = 1; rank < communicator_.size(); ++rank) {
    works.push_back(
        communicator_.send(rank, device::borrowed(std::span(word))));
  }
  for (const auto& work : works) wait(*work);
  return go;
}

/// One way, at `from`; 0 elsewhere.
double Prober::ping_pong(Rank from, Rank to) {
  const Rank rank = communicator_.rank();
  if (rank != from && rank != to) return 0;
  const Rank peer = rank == from ? to : from;
  std::array<std::byte, kSmallBytes> out{}, in{};
  const double start = now();
  for (int trip = 0; trip < kRoundTrips; ++trip) {
    if (rank == from) send(peer, out);
    receive(peer, in);
    if (rank == to) send(peer, out);
  }
  return rank == from ? (now() - start) / (2 * kRoundTrips) : 0;
}

/// From asking all senders to having all messages, by this rank's clock; 0 if
/// it receives none. A sender waits to be asked, so that no clock is compared
/// with another's and nothing arrives before it is waited for.
double Prober::transfer(const Pattern& pattern, std::int64_t bytes) {
  const Rank rank = communicator_.rank();
  std::vector<Rank> senders, receivers;
  for (const auto& [from, to] : pattern.pairs) {
    if (to == rank) senders.push_back(from);
    if (from == rank) receivers.push_back(to);
  }
  const std::array<std::byte, 1> question{};
  std::vector<std::byte> questions(receivers.size());
  comm::Works asked, data, sent;
  const double start = now();
  // Of two messages from one rank to another the question comes first.
  for (std::size_t i = 0; i < receivers.size(); ++i) {
    asked.push_back(communicator_.receive(
        receivers[i], device::borrowed(std::span(questions).subspan(i, 1))));
  }
  for (std::size_t i = 0; i < senders.size(); ++i) {
    const auto slice =
        std::span(incoming_).subspan(i * options_.sizes.back(), bytes);
    data.push_back(communicator_.receive(senders[i], device::borrowed(slice)));
  }
  for (const Rank from : senders) {
    sent.push_back(
        communicator_.send(from, device::borrowed(std::span(question))));
  }
  for (std::size_t i = 0; i < receivers.size(); ++i) {
    wait(*asked[i]);
    sent.push_back(communicator_.send(
        receivers[i], device::borrowed(std::span(outgoing_).first(bytes))));
  }
  for (const auto& work : data) wait(*work);
  const double seconds = senders.empty() ? 0 : now() - start;
  for (const auto& work : sent) wait(*work);
  return seconds;
}

/// nullopt if the time is up. Every rank gets the longest of all ranks' times.
std::optional<std::vector<double>> Prober::round(const std::vector<Task>& tasks,
                                                 double seconds) {
  std::vector<double> times;
  for (const Task& task : tasks) {
    if (!gate(seconds)) return std::nullopt;
    const auto [from, to] = task.pattern.pairs.front();
    times.push_back(task.ping_pong ? ping_pong(from, to)
                                   : transfer(task.pattern, task.bytes));
  }
  for (const auto& bytes :
       communicator_.all_gather(std::as_bytes(std::span(times)))) {
    std::vector<double> theirs(times.size());
    std::memcpy(theirs.data(), bytes.data(), bytes.size());
    std::ranges::transform(times, theirs, times.begin(),
                           [](double a, double b) { return std::max(a, b); });
  }
  return times;
}

std::vector<std::vector<double>> Prober::rounds(const std::vector<Task>& tasks,
                                                const char* what,
                                                double seconds) {
  std::vector<Task> warm_up = tasks;
  std::erase_if(warm_up, [&](const Task& task) {
    return !task.ping_pong && task.bytes != options_.sizes.front();
  });
  note(fmt::format("{}: {} measurements of at most {} bytes, {} rounds", what,
                   tasks.size(), options_.sizes.back(), options_.repeats));
  std::vector<std::vector<double>> all;
  const bool warm = round(warm_up, seconds).has_value();
  for (int i = 0; warm && i < options_.repeats; ++i) {
    std::optional<std::vector<double>> times = round(tasks, seconds);
    if (!times) break;
    all.push_back(std::move(*times));
    note(fmt::format("{}: round {} of {}, {:.1f} s", what, i + 1,
                     options_.repeats, elapsed()));
  }
  require(!all.empty(),
          "[probe] got a limit of {} s, which does not suffice for one round "
          "of {}; want more seconds or smaller messages",
          options_.seconds, what);
  return all;
}

std::vector<Figure> figures(const std::vector<std::vector<double>>& rounds) {
  std::vector<Figure> result;
  for (std::size_t i = 0; i < rounds.front().size(); ++i) {
    std::vector<double> repeats;
    for (const std::vector<double>& times : rounds) repeats.push_back(times[i]);
    result.push_back(figure_of(std::move(repeats)));
  }
  return result;
}

std::vector<Task> latency_tasks(int ranks) {
  std::vector<Task> tasks;
  for (Rank from = 0; from < ranks; ++from) {
    for (Rank to = 0; to < ranks; ++to) {
      if (from == to) continue;
      tasks.push_back({.pattern = {"latency", "latency", {{from, to}}},
                       .bytes = kSmallBytes,
                       .ping_pong = true});
    }
  }
  return tasks;
}

/// Measures patterns, and latencies if `with_latency`, and adds them to
/// `numbers`, which are returned.
Measurements measured(Measurements numbers, Prober& prober,
                      const std::vector<Pattern>& patterns, bool with_latency,
                      const char* what, double seconds) {
  std::vector<Task> tasks;
  if (with_latency) tasks = latency_tasks(numbers.ranks);
  for (const Pattern& pattern : patterns) {
    for (const std::int64_t bytes : numbers.sizes) {
      tasks.push_back({.pattern = pattern, .bytes = bytes});
    }
  }
  const auto rounds = prober.rounds(tasks, what, seconds);
  const std::vector<Figure> all = figures(rounds);
  const int count = static_cast<int>(rounds.size());
  numbers.rounds = with_latency ? count : std::min(numbers.rounds, count);
  std::size_t next = 0;
  for (; next < tasks.size() && tasks[next].ping_pong; ++next) {
    const auto [from, to] = tasks[next].pattern.pairs.front();
    numbers.latency[from][to] = all[next];
  }
  for (const Pattern& pattern : patterns) {
    Measurements::Timed timed{.pattern = pattern, .seconds = {}};
    for (std::size_t i = 0; i < numbers.sizes.size(); ++i) {
      timed.seconds.push_back(all[next++]);
    }
    numbers.patterns.push_back(std::move(timed));
  }
  return numbers;
}

}  // namespace

void check(const ProbeOptions& options, int ranks) {
  require(ranks >= 2, "[probe] got {} rank{}; want at least 2", ranks,
          ranks == 1 ? "" : "s");
  require(!options.sizes.empty(), "[probe] got no sizes; want at least 1");
  const std::int64_t most = kMaxProbeBufferBytes / (ranks - 1);
  for (const std::int64_t size : options.sizes) {
    require(size >= 1 && size <= most,
            "[probe] got messages of {} bytes for {} ranks; want 1 to {}", size,
            ranks, most);
  }
  require(options.repeats >= 1, "[probe] got {} repeats; want at least 1",
          options.repeats);
  require(std::isfinite(options.seconds) && options.seconds > 0,
          "[probe] got a limit of {} s; want a positive number",
          options.seconds);
}

Measurements probe(comm::Communicator& communicator, ProbeOptions options) {
  const int ranks = communicator.size();
  check(options, ranks);
  std::ranges::sort(options.sizes);
  options.sizes.erase(std::unique(options.sizes.begin(), options.sizes.end()),
                      options.sizes.end());

  Prober prober(communicator, options);
  Measurements numbers{
      .ranks = ranks,
      .sizes = options.sizes,
      .latency = std::vector(ranks, std::vector<Figure>(ranks)),
      .patterns = {}};
  numbers = measured(std::move(numbers), prober, flat_patterns(ranks), true,
                     "pairs", kFlatShare * options.seconds);
  const Grouping grouping = find_groups(numbers);
  if (!grouping.are_nodes()) return numbers;
  return measured(std::move(numbers), prober, group_patterns(grouping.groups),
                  false, "groups", options.seconds);
}

}  // namespace ringweave::discovery
