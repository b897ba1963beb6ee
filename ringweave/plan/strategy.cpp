#include "ringweave/plan/strategy.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <tuple>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/base/json.h"
#include "ringweave/plan/direct_schedule.h"
#include "ringweave/plan/walk_schedule.h"
#include "ringweave/plan/walks.h"

namespace ringweave::plan {
namespace {

struct Row {
  const char* name;
  Strategy strategy;
};

constexpr Row kTable[] = {
    {"ring", {StrategyKind::ring}},
    {"ring_reverse", {StrategyKind::ring, true}},
    {"multi_ring", {StrategyKind::multi_ring}},
    {"time_varying_multi_ring", {StrategyKind::time_varying_multi_ring}},
    {"direct", {StrategyKind::direct}},
    {"all_gather", {StrategyKind::all_gather}},
};

constexpr const char* kDirectPrefix = "direct:";

bool is_direct(const Strategy& strategy) {
  return strategy.kind == StrategyKind::direct ||
         strategy.kind == StrategyKind::all_gather;
}

Walks make_walks(const Strategy& strategy, int ranks) {
  switch (strategy.kind) {
    case StrategyKind::ring:
      return ring_walks(ranks, strategy.reverse);
    case StrategyKind::multi_ring:
      return multi_ring_walks(ranks);
    case StrategyKind::time_varying_multi_ring:
      return time_varying_walks(ranks);
    case StrategyKind::direct:
    case StrategyKind::all_gather:
      break;
  }
  throw InternalError("bug in ringweave: walks of a strategy without any");
}

// The walks depend only on strategy and rank count, and finding rings takes
// longer than everything else; masks may change at every step. Threads of
// several ranks call this at once.
std::shared_ptr<const Walks> cached_walks(const Strategy& strategy, int ranks) {
  static std::mutex mutex;
  static std::map<std::tuple<StrategyKind, bool, int>,
                  std::shared_ptr<const Walks>>
      cache;
  const std::lock_guard lock(mutex);
  auto& walks = cache[{strategy.kind, strategy.reverse, ranks}];
  if (!walks) {
    walks = std::make_shared<const Walks>(make_walks(strategy, ranks));
  }
  return walks;
}

int direct_strands(const Strategy& strategy, int ranks) {
  if (strategy.kind == StrategyKind::all_gather) return 1;
  require(strategy.strands >= 0 && strategy.strands <= kMaxStrands,
          "[direct] got {} strands; want 1 … {}", strategy.strands,
          kMaxStrands);
  return strategy.strands > 0 ? strategy.strands : std::max(1, ranks - 1);
}

void check_rank(Rank rank, int ranks) {
  require(rank >= 0 && rank < ranks, "[schedule] got rank {}; want 0 … {}",
          rank, ranks - 1);
}

Schedule generate(const Strategy& strategy, const Demand& demand, Pass pass,
                  std::optional<Rank> rank, bool retain) {
  const int n = demand.ranks();
  switch (strategy.kind) {
    case StrategyKind::direct:
      return direct_schedule(demand, direct_strands(strategy, n), pass, rank);
    case StrategyKind::all_gather:
      return all_gather_schedule(demand, pass, rank, retain);
    default:
      return walk_schedule(*cached_walks(strategy, n), demand, pass, rank,
                           retain);
  }
}

Schedule generate_summaries(const Strategy& strategy, const Demand& demand,
                            std::optional<Rank> rank) {
  const int n = demand.ranks();
  return is_direct(strategy)
             ? direct_summaries(demand, direct_strands(strategy, n), rank)
             : walk_summaries(*cached_walks(strategy, n), demand, rank);
}

}  // namespace

Strategy strategy_from_name(const std::string& name) {
  for (const Row& row : kTable) {
    if (name == row.name) return row.strategy;
  }
  if (name.starts_with(kDirectPrefix)) {
    const char* begin = name.data() + std::string(kDirectPrefix).size();
    const char* end = name.data() + name.size();
    int strands = 0;
    const auto [stopped, error] = std::from_chars(begin, end, strands);
    require(error == std::errc{} && stopped == end && strands >= 1,
            "[strategy] got \"{}\"; want direct:k with a number of strands "
            "k >= 1",
            name);
    return {StrategyKind::direct, false, strands};
  }
  const std::vector<std::string> names = strategy_names();
  const std::optional<std::string> near = nearest(name, names);
  throw InvalidArgument(
      fmt::format("[strategy] got \"{}\"; {}want one of {}", name,
                  near ? fmt::format("did you mean \"{}\"? ", *near) : "",
                  fmt::join(names, ", ")));
}

std::string name(const Strategy& strategy) {
  if (strategy.kind == StrategyKind::direct && strategy.strands > 0) {
    return fmt::format("{}{}", kDirectPrefix, strategy.strands);
  }
  for (const Row& row : kTable) {
    if (row.strategy.kind != strategy.kind) continue;
    if (row.strategy.reverse == strategy.reverse) return row.name;
  }
  throw InvalidArgument("[strategy] got reverse; only ring has a direction");
}

std::vector<std::string> strategy_names() {
  std::vector<std::string> names;
  for (const Row& row : kTable) names.emplace_back(row.name);
  return names;
}

int strand_count(const Strategy& strategy, int ranks) {
  require(ranks >= 1, "[strategy] got {} ranks; want at least 1", ranks);
  return is_direct(strategy) ? direct_strands(strategy, ranks)
                             : cached_walks(strategy, ranks)->strands();
}

Schedule rank_part(const Strategy& strategy, const Demand& demand, Pass pass,
                   Rank rank, bool retain) {
  check_rank(rank, demand.ranks());
  return generate(strategy, demand, pass, rank, retain);
}

Schedule whole(const Strategy& strategy, const Demand& demand, Pass pass,
               bool retain) {
  return generate(strategy, demand, pass, std::nullopt, retain);
}

Schedule rank_part_of_summaries(const Strategy& strategy, const Demand& demand,
                                Rank rank) {
  check_rank(rank, demand.ranks());
  return generate_summaries(strategy, demand, rank);
}

Schedule whole_of_summaries(const Strategy& strategy, const Demand& demand) {
  return generate_summaries(strategy, demand, std::nullopt);
}

}  // namespace ringweave::plan
