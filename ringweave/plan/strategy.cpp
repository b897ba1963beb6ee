#include "ringweave/plan/strategy.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>

#include "ringweave/base/error.h"
#include "ringweave/plan/direct_schedule.h"
#include "ringweave/plan/walk_schedule.h"
#include "ringweave/plan/walks.h"

namespace ringweave::plan {
namespace {

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
    case StrategyKind::paths:
    case StrategyKind::double_ring:
    case StrategyKind::hierarchical:
    case StrategyKind::synthesised:
      throw NoSolution("[" + name(strategy) + "] not there yet");
    case StrategyKind::rings: {
      require(strategy.rings != nullptr, "[rings] got no rings");
      Walks walks = Walks::along(*strategy.rings);
      require(walks.ranks() == ranks, "[rings] got rings of {} ranks; want {}",
              walks.ranks(), ranks);
      return walks;
    }
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
  if (strategy.kind == StrategyKind::rings) {
    return std::make_shared<const Walks>(make_walks(strategy, ranks));
  }
  static std::mutex mutex;
  static std::map<std::tuple<StrategyKind, bool, int, int>,
                  std::shared_ptr<const Walks>>
      cache;
  const std::lock_guard lock(mutex);
  auto& walks = cache[{strategy.kind, strategy.reverse, strategy.nodes, ranks}];
  if (!walks) {
    walks = std::make_shared<const Walks>(make_walks(strategy, ranks));
  }
  return walks;
}

int direct_strands(const Strategy& strategy, int ranks) {
  if (strategy.kind == StrategyKind::all_gather) return 1;
  require(strategy.strands >= 0, "[direct] got {} strands; want at least 1",
          strategy.strands);
  return strategy.strands > 0 ? strategy.strands : std::max(1, ranks - 1);
}

void check_rank(Rank rank, int ranks) {
  require(rank >= 0 && rank < ranks, "[schedule] got rank {}; want 0 … {}",
          rank, ranks - 1);
}

Schedule generate(const Strategy& strategy, const Demand& demand, Pass pass,
                  std::optional<Rank> rank, bool retain) {
  const int n = demand.ranks();
  ScheduleBuilder builder(demand, strand_count(strategy, n), pass,
                          step_count(strategy, n, pass));
  emit(strategy, demand, pass, rank, retain, builder);
  return builder.finish();
}

Schedule generate_summaries(const Strategy& strategy, const Demand& demand,
                            std::optional<Rank> rank) {
  const int n = demand.ranks();
  const int strands = strand_count(strategy, n);
  ScheduleBuilder builder(demand, strands, Pass::forward,
                          step_count(strategy, n, Pass::forward));
  if (is_direct(strategy)) {
    emit_direct_summaries(demand, strands, rank, builder);
  } else {
    emit_walk_summaries(*cached_walks(strategy, n), demand, rank, builder);
  }
  return builder.finish();
}

}  // namespace

std::optional<std::string> why_not(const Strategy& strategy, int ranks) {
  try {
    strand_count(strategy, ranks);
    return std::nullopt;
  } catch (const NoSolution& error) {
    return error.what();
  } catch (const InvalidArgument& error) {
    return error.what();
  }
}

int strand_count(const Strategy& strategy, int ranks) {
  require(ranks >= 1, "[strategy] got {} ranks; want at least 1", ranks);
  return is_direct(strategy) ? direct_strands(strategy, ranks)
                             : cached_walks(strategy, ranks)->strands();
}

int step_count(const Strategy& strategy, int ranks, Pass pass) {
  const int strands = strand_count(strategy, ranks);
  if (strategy.kind == StrategyKind::all_gather) return 2;
  if (strategy.kind == StrategyKind::direct) {
    return strands + (pass == Pass::backward ? 2 : 1);
  }
  return ranks;
}

void emit(const Strategy& strategy, const Demand& demand, Pass pass,
          std::optional<Rank> rank, bool retain, ScheduleSink& sink) {
  const int n = demand.ranks();
  switch (strategy.kind) {
    case StrategyKind::direct:
      return emit_direct(demand, direct_strands(strategy, n), pass, rank, sink);
    case StrategyKind::all_gather:
      return emit_all_gather(demand, pass, rank, retain, sink);
    default:
      return emit_walks(*cached_walks(strategy, n), demand, pass, rank, retain,
                        sink);
  }
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
