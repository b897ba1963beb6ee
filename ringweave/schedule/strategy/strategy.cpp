#include "ringweave/schedule/strategy/strategy.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>

#include "ringweave/base/error.h"
#include "ringweave/schedule/strategy/direct_schedule.h"
#include "ringweave/schedule/strategy/hierarchical_schedule.h"
#include "ringweave/schedule/strategy/paths.h"
#include "ringweave/schedule/strategy/tree_schedule.h"
#include "ringweave/schedule/strategy/walk_schedule.h"
#include "ringweave/schedule/strategy/walks.h"

namespace ringweave::schedule {
namespace {

// The switches over StrategyKind have no default, so that the compiler names
// those that a new kind is missing from.
[[noreturn]] void no_such_kind() {
  throw InternalError("bug in ringweave: a strategy of no kind");
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
      return Walks::along(path_rings(strategy.nodes, ranks / strategy.nodes));
    case StrategyKind::direct:
    case StrategyKind::all_gather:
    case StrategyKind::double_ring:
    case StrategyKind::hierarchical:
    case StrategyKind::rings:
    case StrategyKind::synthesised:
      break;  // no walks, or not by name
  }
  throw InternalError("bug in ringweave: walks of a strategy without any");
}

// The walks depend only on strategy and rank count, and finding rings takes
// longer than everything else; masks may change at every step. Threads of
// several ranks call this at once.
std::shared_ptr<const Walks> cached_walks(const Strategy& strategy, int ranks) {
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

// Ranks of a node.
int split_into_nodes(const Strategy& strategy, int ranks) {
  const int nodes = strategy.nodes;
  require(nodes >= 1, "[{}] got {} nodes; want at least 1", name(strategy),
          nodes);
  if (ranks % nodes != 0) {
    throw NoSolution(
        fmt::format("[{}] got {} ranks; want a multiple of the {} nodes",
                    name(strategy), ranks, nodes));
  }
  return ranks / nodes;
}

// Of the strategies in which blocks walk.
std::shared_ptr<const Walks> walks_of(const Strategy& strategy, int ranks) {
  if (strategy.kind == StrategyKind::paths) split_into_nodes(strategy, ranks);
  if (strategy.kind != StrategyKind::rings) {
    return cached_walks(strategy, ranks);
  }
  require(strategy.rings != nullptr, "[rings] got no rings; want at least 1");
  auto walks = std::make_shared<const Walks>(Walks::along(*strategy.rings));
  require(walks->ranks() == ranks,
          "[rings] got rings of {} ranks; want rings of all {} ranks",
          walks->ranks(), ranks);
  return walks;
}

Hierarchy hierarchy_of(const Strategy& strategy, int ranks) {
  Hierarchy hierarchy{.nodes = strategy.nodes,
                      .ranks_per_node = split_into_nodes(strategy, ranks)};
  StrategyKind inner = StrategyKind::ring;
  if (strategy.kind == StrategyKind::hierarchical) {
    require(strategy.slices >= 0,
            "[hierarchical] got {} slices; want at least 1", strategy.slices);
    hierarchy.slices = strategy.slices > 0 ? strategy.slices : kDefaultSlices;
    inner = strategy.inner;
  }
  if (inner == StrategyKind::direct) return hierarchy;
  require(inner == StrategyKind::ring || inner == StrategyKind::multi_ring ||
              inner == StrategyKind::time_varying_multi_ring,
          "[hierarchical] got inner {}; want direct, ring, multi_ring or "
          "time_varying_multi_ring",
          name({.kind = inner}));
  hierarchy.inner = cached_walks({.kind = inner}, hierarchy.ranks_per_node);
  return hierarchy;
}

const Trees& trees_of(const Strategy& strategy, int ranks) {
  require(strategy.trees != nullptr,
          "[synthesised] got no trees; want those of a plan file");
  require(strategy.trees->ranks == ranks,
          "[synthesised] got trees of {} ranks; want trees of {} ranks",
          strategy.trees->ranks, ranks);
  return *strategy.trees;
}

int direct_strands(const Strategy& strategy, int ranks) {
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
  ScheduleBuilder builder(demand, strand_count(strategy, n), pass,
                          step_count(strategy, n, pass));
  emit(strategy, demand, pass, rank, retain, builder);
  return builder.finish();
}

void emit_summaries(const Strategy& strategy, const Demand& demand,
                    std::optional<Rank> rank, ScheduleSink& sink) {
  const int n = demand.ranks();
  switch (strategy.kind) {
    case StrategyKind::direct:
    case StrategyKind::all_gather:
      return emit_direct_summaries(demand, strand_count(strategy, n), rank,
                                   sink);
    case StrategyKind::double_ring:
    case StrategyKind::hierarchical:
      return emit_hierarchical_summaries(hierarchy_of(strategy, n), demand,
                                         rank, sink);
    case StrategyKind::synthesised:
      return emit_tree_summaries(trees_of(strategy, n), demand, rank, sink);
    case StrategyKind::ring:
    case StrategyKind::multi_ring:
    case StrategyKind::time_varying_multi_ring:
    case StrategyKind::paths:
    case StrategyKind::rings:
      return emit_walk_summaries(*walks_of(strategy, n), demand, rank, sink);
  }
  no_such_kind();
}

Schedule generate_summaries(const Strategy& strategy, const Demand& demand,
                            std::optional<Rank> rank) {
  const int n = demand.ranks();
  ScheduleBuilder builder(demand, strand_count(strategy, n), Pass::forward,
                          step_count(strategy, n, Pass::forward));
  emit_summaries(strategy, demand, rank, builder);
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
  switch (strategy.kind) {
    case StrategyKind::direct:
      return direct_strands(strategy, ranks);
    case StrategyKind::all_gather:
      return 1;
    case StrategyKind::double_ring:
    case StrategyKind::hierarchical:
      return hierarchy_of(strategy, ranks).strands();
    case StrategyKind::synthesised:
      return trees_of(strategy, ranks).strands;
    case StrategyKind::ring:
    case StrategyKind::multi_ring:
    case StrategyKind::time_varying_multi_ring:
    case StrategyKind::paths:
    case StrategyKind::rings:
      return walks_of(strategy, ranks)->strands();
  }
  no_such_kind();
}

int step_count(const Strategy& strategy, int ranks, Pass pass) {
  const int strands = strand_count(strategy, ranks);
  switch (strategy.kind) {
    case StrategyKind::direct:
      return strands + (pass == Pass::backward ? 2 : 1);
    case StrategyKind::all_gather:
      return 2;
    case StrategyKind::double_ring:
    case StrategyKind::hierarchical:
      return hierarchy_of(strategy, ranks).steps(pass);
    case StrategyKind::synthesised:
      return strategy.trees->steps + 1;
    case StrategyKind::ring:
    case StrategyKind::multi_ring:
    case StrategyKind::time_varying_multi_ring:
    case StrategyKind::paths:
    case StrategyKind::rings:
      return ranks;
  }
  no_such_kind();
}

void emit(const Strategy& strategy, const Demand& demand, Pass pass,
          std::optional<Rank> rank, bool retain, ScheduleSink& sink) {
  const int n = demand.ranks();
  switch (strategy.kind) {
    case StrategyKind::direct:
      return emit_direct(demand, direct_strands(strategy, n), pass, rank, sink);
    case StrategyKind::all_gather:
      return emit_all_gather(demand, pass, rank, retain, sink);
    case StrategyKind::double_ring:
    case StrategyKind::hierarchical:
      return emit_hierarchical(hierarchy_of(strategy, n), demand, pass, rank,
                               retain, sink);
    case StrategyKind::synthesised:
      return emit_trees(trees_of(strategy, n), demand, pass, rank, retain,
                        sink);
    case StrategyKind::ring:
    case StrategyKind::multi_ring:
    case StrategyKind::time_varying_multi_ring:
    case StrategyKind::paths:
    case StrategyKind::rings:
      return emit_walks(*walks_of(strategy, n), demand, pass, rank, retain,
                        sink);
  }
  no_such_kind();
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

}  // namespace ringweave::schedule
