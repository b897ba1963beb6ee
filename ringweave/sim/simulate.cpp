#include "ringweave/sim/simulate.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <random>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/schedule/program/outline.h"
#include "ringweave/sim/engine.h"
#include "ringweave/sim/link_rates.h"

namespace ringweave::sim {
namespace {

using schedule::Outline;
using topology::Link;
using topology::Topology;

constexpr const char* kSimulateWhere = "[simulate]";
/// Of a straggler or a slow link. Beyond, times could lose all precision.
constexpr double kMinFactor = 1e-6, kMaxFactor = 1e6;
constexpr double kMaxOverheadSeconds = 1;

/// Routes of all ranks at [from][to].
using Routes = std::vector<std::vector<std::vector<int>>>;

Routes routes_of(const Topology& topology) {
  Routes routes;
  for (Rank from = 0; from < topology.ranks(); ++from) {
    routes.push_back(topology.routes(from));
  }
  return routes;
}

int find_link(const Topology& topology, int from, int to) {
  const int count = topology.vertices();
  require(from >= 0 && from < count && to >= 0 && to < count,
          "{} got a link from vertex {} to vertex {}; want vertices 0 … {}",
          kSimulateWhere, from, to, count - 1);
  const std::optional<int> link = topology.link(from, to);
  require(link.has_value(), "{} got a link from {} to {}; {} has none",
          kSimulateWhere, topology.vertex(from).name, topology.vertex(to).name,
          topology.name());
  return *link;
}

Platform platform_of(const Topology& topology,
                     const SimulationOptions& options) {
  Platform platform;
  std::map<int, int> shared;
  for (const Link& link : topology.links()) {
    const int next = static_cast<int>(platform.bytes_per_second.size());
    const int capacity = link.shared < 0
                             ? next
                             : shared.emplace(link.shared, next).first->second;
    if (capacity == next) {
      platform.bytes_per_second.push_back(link.bytes_per_second);
    }
    platform.capacity.push_back(capacity);
    platform.latency_seconds.push_back(link.latency_seconds);
  }
  for (const SlowLink& slow : options.slow_links) {
    require(slow.factor >= kMinFactor && slow.factor <= kMaxFactor,
            "{} got a factor of {} for a link; want {} … {}", kSimulateWhere,
            slow.factor, kMinFactor, kMaxFactor);
    const int link = find_link(topology, slow.from, slow.to);
    platform.bytes_per_second[platform.capacity[link]] *= slow.factor;
  }
  for (const FailingLink& failing : options.failing_links) {
    require(std::isfinite(failing.seconds) && failing.seconds >= 0,
            "{} got a link that fails at {} s; want at least 0", kSimulateWhere,
            failing.seconds);
    const int link = find_link(topology, failing.from, failing.to);
    platform.failures.push_back({platform.capacity[link], failing.seconds});
  }
  return platform;
}

/// Tiles' seconds with the options' jitter and stragglers.
class Compute {
 public:
  Compute(const planner::Workload& workload, const SimulationOptions& options,
          int ranks)
      : workload_(workload), options_(options) {
    require(std::isfinite(options.jitter) && options.jitter >= 0 &&
                options.jitter < 1,
            "{} got a jitter of {}; want 0 to less than 1", kSimulateWhere,
            options.jitter);
    for (const auto& [rank, factor] : options.stragglers) {
      require(rank >= 0 && rank < ranks,
              "{} got a straggler {}; want a rank 0 … {}", kSimulateWhere, rank,
              ranks - 1);
      require(factor >= kMinFactor && factor <= kMaxFactor,
              "{} got a factor of {} for rank {}; want {} … {}", kSimulateWhere,
              factor, rank, kMinFactor, kMaxFactor);
    }
  }

  /// Of one rank's tiles, in order of computing.
  std::vector<double> seconds(const Outline& outline) const {
    const auto found = options_.stragglers.find(outline.rank);
    const double factor =
        found == options_.stragglers.end() ? 1 : found->second;
    // Each rank has its own sequence, so that schedules can be compared.
    std::seed_seq seeds{static_cast<std::uint32_t>(options_.seed),
                        static_cast<std::uint32_t>(options_.seed >> 32),
                        static_cast<std::uint32_t>(outline.rank)};
    std::mt19937_64 random(seeds);
    std::vector<double> result;
    for (const Outline::Step& step : outline.steps) {
      for (const double plain : tile_seconds(step)) {
        // 53 random bits are all that a double in [0, 1) holds.
        const double uniform =
            std::ldexp(static_cast<double>(random() >> 11), -53);
        result.push_back(plain * factor *
                         (1 + options_.jitter * (2 * uniform - 1)));
      }
    }
    return result;
  }

 private:
  /// A step's seconds, shared out among its tiles by their work.
  std::vector<double> tile_seconds(const Outline::Step& step) const {
    std::vector<double> seconds;
    double sum = 0;
    for (const schedule::Tile& tile : step.tiles) {
      const double work = workload_.tile_work ? workload_.tile_work(tile) : 0;
      require(std::isfinite(work) && work >= 0,
              "{} got a work of {} for a tile of rank {}; want at least 0",
              kSimulateWhere, work, tile.rank);
      seconds.push_back(work);
      sum += work;
    }
    if (sum == 0) return seconds;
    const double all = workload_.seconds(sum);
    require(std::isfinite(all) && all >= 0,
            "{} got {} seconds for a step's tiles; want at least 0",
            kSimulateWhere, all);
    for (double& each : seconds) each *= all / sum;
    return seconds;
  }

  const planner::Workload& workload_;
  const SimulationOptions& options_;
};

/// What is simulated, and beside it what the timeline tells of each item.
struct Case {
  Script script;
  std::vector<MessageTimes> messages;
  std::vector<TileTimes> tiles;
};

std::int64_t bytes_of(const schedule::Message& message,
                      const planner::Workload& workload) {
  const auto found = workload.unit_bytes.find(message.first.payload);
  require(found != workload.unit_bytes.end() && found->second > 0,
          "{} got no bytes of a unit of {}", kSimulateWhere,
          schedule::name(message.first.payload));
  return message.size * found->second;
}

/// The senders' messages, rank by rank. Between two ranks both sides number
/// them alike.
void add_messages(const std::vector<Outline>& outlines, const Routes& routes,
                  const Topology& topology, const planner::Workload& workload,
                  Case& result) {
  for (const Outline& outline : outlines) {
    for (const schedule::Message& message : outline.messages) {
      const auto [from, to] = std::pair(message.first.from, message.first.to);
      if (from != outline.rank) continue;
      const std::vector<int>& route = routes[from][to];
      require(!route.empty(),
              "{} got a transfer from rank {} to rank {}; {} has no route "
              "between them{}",
              kSimulateWhere, from, to, topology.name(),
              topology.ranks_forward() ? "" : " but through other ranks");
      const std::int64_t bytes = bytes_of(message, workload);
      result.script.messages.push_back({from, to, bytes, &route});
      result.messages.push_back({.first = message.first,
                                 .parts = message.parts,
                                 .units = message.size,
                                 .bytes = bytes});
    }
  }
}

Case make_case(const schedule::Schedule& schedule, const Routes& routes,
               const Topology& topology, const planner::Workload& workload,
               const SimulationOptions& options) {
  const std::vector<Outline> outlines =
      schedule::make_outlines(schedule, workload.side_by_side);
  Case result;
  result.script.message_overhead_seconds = workload.message_overhead_seconds;
  add_messages(outlines, routes, topology, workload, result);
  const std::size_t ranks = topology.ranks();
  const auto pair_of = [&](const schedule::Transfer& transfer) {
    return transfer.from * ranks + transfer.to;
  };
  std::vector<std::vector<int>> between(ranks * ranks);
  for (std::size_t i = 0; i < result.messages.size(); ++i) {
    between[pair_of(result.messages[i].first)].push_back(static_cast<int>(i));
  }
  const Compute compute(workload, options, topology.ranks());
  for (const Outline& outline : outlines) {
    if (options.poll) options.poll();
    std::vector<int> number;  // of each of the outline's messages
    number.reserve(outline.messages.size());
    std::vector<std::size_t> sent(ranks), received(ranks);  // by peer
    for (const schedule::Message& message : outline.messages) {
      const schedule::Transfer& first = message.first;
      std::size_t& count =
          first.from == outline.rank ? sent[first.to] : received[first.from];
      number.push_back(between[pair_of(first)].at(count++));
      ensure(result.messages[number.back()].first.block == first.block,
             "ranks {} and {} order their messages differently", first.from,
             first.to);
    }
    const auto numbers = [&](const std::vector<int>& indices) {
      std::vector<int> list;
      list.reserve(indices.size());
      for (const int index : indices) list.push_back(number[index]);
      return list;
    };
    auto& steps = result.script.steps.emplace_back();
    for (const Outline::Step& step : outline.steps) {
      Script::Step& script = steps.emplace_back();
      script.waits = numbers(step.waits);
      script.receives = numbers(step.receives);
      script.sends = numbers(step.sends);
      for (const schedule::Tile& tile : step.tiles) {
        script.tiles.push_back(static_cast<int>(result.tiles.size()));
        result.tiles.push_back(
            {.tile = tile,
             .units = schedule::block_size(schedule, tile.block)});
      }
    }
    for (const double seconds : compute.seconds(outline)) {
      result.script.tile_seconds.push_back(seconds);
    }
  }
  return result;
}

/// What the rank waits for, and why that does not come.
Stuck stuck_on(int index, Rank rank, const Timeline& timeline,
               const Record::Message& times) {
  const schedule::Transfer& first = timeline.messages[index].first;
  const bool receives = first.to == rank;
  const char* why = times.send_seconds == kNever ? "it was never sent"
                    : times.receive_seconds == kNever
                        ? "it was never received"
                        : "a link on its way failed";
  const Rank peer = receives ? first.from : first.to;
  return {.rank = rank,
          .step = first.wait_step,
          .message = index,
          .peer = peer,
          .text = fmt::format(
              "rank {} waits in step {} for {} block (owner {}, strand {}) {} "
              "rank {}: {}",
              rank, first.wait_step, schedule::name(first.payload),
              first.block.owner, first.block.strand,
              receives ? "from" : "on its way to", peer, why)};
}

Timeline timeline_of(Case& simulated, const Record& record,
                     const std::vector<double>& rates) {
  Timeline timeline;
  timeline.messages = std::move(simulated.messages);
  for (std::size_t i = 0; i < timeline.messages.size(); ++i) {
    const Record::Message& times = record.messages[i];
    timeline.messages[i].post_seconds = times.send_seconds;
    timeline.messages[i].start_seconds =
        std::max(times.send_seconds, times.receive_seconds);
    timeline.messages[i].end_seconds = times.end_seconds;
  }
  const int ranks = static_cast<int>(record.ends.size());
  timeline.ranks.resize(ranks);
  timeline.tiles = std::move(simulated.tiles);
  for (std::size_t i = 0; i < timeline.tiles.size(); ++i) {
    TileTimes& tile = timeline.tiles[i];
    tile.start_seconds = record.tiles[i].start_seconds;
    tile.end_seconds = record.tiles[i].end_seconds;
    if (tile.end_seconds == kNever) continue;
    timeline.ranks[tile.tile.rank].compute_seconds +=
        tile.end_seconds - tile.start_seconds;
  }
  timeline.waits = record.waits;
  std::ranges::stable_sort(timeline.waits, {}, &WaitTimes::rank);
  for (const WaitTimes& wait : timeline.waits) {
    timeline.ranks[wait.rank].waiting_seconds +=
        wait.end_seconds - wait.start_seconds;
  }
  for (const MessageTimes& message : timeline.messages) {
    if (message.post_seconds == kNever) continue;
    timeline.ranks[message.first.from].overhead_seconds +=
        simulated.script.message_overhead_seconds;
  }
  for (Rank rank = 0; rank < ranks; ++rank) {
    timeline.ranks[rank].end_seconds = record.ends[rank];
    timeline.seconds = std::max(timeline.seconds, record.ends[rank]);
    const int message = record.stuck[rank];
    if (message < 0) continue;
    timeline.stuck.push_back(
        stuck_on(message, rank, timeline, record.messages[message]));
  }
  std::vector<const std::vector<int>*> routes;
  for (const Script::Message& message : simulated.script.messages) {
    routes.push_back(message.route);
  }
  timeline.links = link_use(timeline.messages, routes, rates, timeline.seconds);
  return timeline;
}

}  // namespace

Timeline simulate(const schedule::Schedule& schedule, const Topology& topology,
                  const planner::Workload& workload,
                  const SimulationOptions& options) {
  require(schedule.ranks == topology.ranks(),
          "{} got a schedule for {} ranks; {} has {}", kSimulateWhere,
          schedule.ranks, topology.name(), topology.ranks());
  require(workload.message_overhead_seconds >= 0 &&
              workload.message_overhead_seconds <= kMaxOverheadSeconds,
          "{} got a message overhead of {} s; want 0 … {}", kSimulateWhere,
          workload.message_overhead_seconds, kMaxOverheadSeconds);
  const Platform platform = platform_of(topology, options);
  const Routes routes = routes_of(topology);
  Case simulated = make_case(schedule, routes, topology, workload, options);
  std::vector<double> rates;
  for (const int capacity : platform.capacity) {
    rates.push_back(platform.bytes_per_second[capacity]);
  }
  Timeline timeline = timeline_of(
      simulated, play(simulated.script, platform, options.poll), rates);
  timeline.pass = schedule.pass;
  if (options.link_rates) {
    timeline.rates = link_rates(simulated.script, timeline.messages, platform);
  }
  return timeline;
}

}  // namespace ringweave::sim
