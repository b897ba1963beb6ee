// The strategies by name, and the schedules they make.
//
//   const Strategy s = strategy_from_name("paths:nodes=2");
//   const Schedule mine = rank_part(s, demand, Pass::forward, rank);
//
// Each strategy has a generator in a file of its own. strategy.cpp calls it;
// names and JSON are in strategy_name.cpp. CONTRIBUTING.md lists what a new
// strategy needs.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ringweave/base/json.h"
#include "ringweave/base/range.h"
#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/schedule.h"
#include "ringweave/schedule/schedule_builder.h"
#include "ringweave/schedule/strategy/trees.h"
#include "ringweave/topology/ring.h"

namespace ringweave::schedule {

enum class StrategyKind {
  ring,        ///< one strand, r → r+1 (or r → r-1: `reverse`)
  multi_ring,  ///< TASP: n-1 strands on the cycles of K_n, or on
               ///< time-varying walks where no cycles exist (n = 4, 6)
  time_varying_multi_ring,  ///< n-1 strands, every step uses every link once;
                            ///< n a prime power or 6
  direct,        ///< every owner sends each of k strands straight to all peers
  all_gather,    ///< direct with k = 1 and all compute after it
  paths,         ///< TASP: m strands over nodes of m ranks each, m even
  double_ring,   ///< hierarchical with one slice and a ring inside the nodes
  hierarchical,  ///< slices of shards go around the nodes on rails, and are
                 ///< spread inside each node
  rings,         ///< one strand on each of the given rings
  synthesised,   ///< on given trees
};

/// Slices of `hierarchical` unless said otherwise: the last one's way inside
/// the node, which nothing hides, takes a quarter of a shard's.
inline constexpr int kDefaultSlices = 4;

struct Strategy {
  StrategyKind kind = StrategyKind::multi_ring;
  bool reverse = false;  ///< ring only: r → r-1, which causal zigzag prefers
  int strands = 0;       ///< direct only: k ≥ 1; 0: ranks - 1 (at least 1)
  /// paths (≥ 2), double_ring, hierarchical (≥ 1): number of nodes, which have
  /// equally many ranks, numbered node by node.
  int nodes = 0;
  int slices = 0;  ///< hierarchical only: ≥ 1; 0: kDefaultSlices
  /// hierarchical only, inside a node: direct, ring, multi_ring or
  /// time_varying_multi_ring.
  StrategyKind inner = StrategyKind::direct;
  /// rings only. What is not link-disjoint shares links, and is as valid.
  std::shared_ptr<const std::vector<topology::Ring>> rings = nullptr;
  std::shared_ptr<const Trees> trees = nullptr;  ///< synthesised only
};
/// Equal fields; rings and trees by content.
bool operator==(const Strategy& a, const Strategy& b);

/// "ring", "ring_reverse", "multi_ring", "time_varying_multi_ring", "direct",
/// "direct:3" (k strands), "all_gather", "paths:nodes=2",
/// "double_ring:nodes=2", "hierarchical:nodes=2,slices=3,inner=multi_ring"
/// (slices and inner may be left out). InvalidArgument names the nearest, and
/// says what is wrong with a parameter.
Strategy strategy_from_name(const std::string& name);
/// Of rings and synthesised "rings" and "synthesised", which no name brings
/// back: their data comes from JSON or a topology.
std::string name(const Strategy& strategy);
/// A name of every kind that strategy_from_name takes: "direct" without a
/// number, those of nodes with two.
std::vector<std::string> strategy_names();
/// Names between commas. A comma that "key=value" follows belongs to a name:
/// "ring,hierarchical:nodes=2,slices=3,direct" are three.
std::vector<std::string> split_strategy_names(std::string_view list);

/// {"name"}, with "rings" (rank orders) or "trees" (trees.h) for those that
/// need them. `path` stands in errors.
Json to_json(const Strategy& strategy);
Strategy strategy_from_json(const Json& json, const std::string& path);

/// Why the strategy can't run on so many ranks, in one line; nullopt: it can.
std::optional<std::string> why_not(const Strategy& strategy, int ranks);

/// Number of strands that a shard is cut into.
/// Throws NoSolution if the strategy does not exist for `ranks`, and
/// InvalidArgument if its fields make no sense.
int strand_count(const Strategy& strategy, int ranks);
/// Schedule::steps of every schedule of the strategy; throws as strand_count().
int step_count(const Strategy& strategy, int ranks, Pass pass);

/// The transfers that `rank` takes part in, its tiles and what it retains, with
/// the blocks that these name. Never builds the whole schedule; what depends
/// only on strategy and rank count is computed once per process.
/// Forward with `retain` false keeps nothing for backward.
/// Throws InvalidArgument unless 0 <= rank < demand.ranks(), and as
/// strand_count() does.
Schedule rank_part(const Strategy& strategy, const Demand& demand, Pass pass,
                   Rank rank, bool retain = true);

/// The union of all ranks' parts.
Schedule whole(const Strategy& strategy, const Demand& demand, Pass pass,
               bool retain = true);

/// What rank_part() and whole() (no rank) sort into a schedule, for readers
/// that only sum it up.
void emit(const Strategy& strategy, const Demand& demand, Pass pass,
          std::optional<Rank> rank, bool retain, ScheduleSink& sink);

/// Brings summaries (states of linear layers) to the ranks that need them: one
/// pass forward with payload summary and no tiles. Every part that a rank
/// receives stays to the end in slot owner · strands + strand and is listed in
/// `retained`, also if the rank only passes it on.
Schedule rank_part_of_summaries(const Strategy& strategy, const Demand& demand,
                                Rank rank);
Schedule whole_of_summaries(const Strategy& strategy, const Demand& demand);

}  // namespace ringweave::schedule
