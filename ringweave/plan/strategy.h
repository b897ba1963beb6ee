// The strategies by name, and the schedules they make.
//
//   const Strategy s{StrategyKind::multi_ring};
//   const Schedule mine = rank_part(s, demand, Pass::forward, rank);
//
// Each strategy is a file with a generator and one row in the table of
// strategy.cpp.
#pragma once

#include <string>
#include <vector>

#include "ringweave/base/range.h"
#include "ringweave/plan/demand.h"
#include "ringweave/plan/schedule.h"

namespace ringweave::plan {

enum class StrategyKind {
  ring,        ///< one strand, r → r+1 (or r → r-1: `reverse`)
  multi_ring,  ///< TASP: n-1 strands on the cycles of K_n, or on
               ///< time-varying walks where no cycles exist (n = 4, 6)
  time_varying_multi_ring,  ///< n-1 strands, every step uses every link once;
                            ///< n a prime power or 6
  direct,      ///< every owner sends each of k strands straight to all peers
  all_gather,  ///< direct with k = 1 and all compute after it
};

struct Strategy {
  StrategyKind kind = StrategyKind::multi_ring;
  bool reverse = false;  ///< ring only: r → r-1, which causal zigzag prefers
  int strands = 0;       ///< direct only: k ≥ 1; 0: ranks - 1 (at least 1)
  friend bool operator==(const Strategy&, const Strategy&) = default;
};

/// "ring", "ring_reverse", "multi_ring", "time_varying_multi_ring", "direct",
/// "direct:3" (k strands), "all_gather"; InvalidArgument names the nearest.
Strategy strategy_from_name(const std::string& name);
std::string name(const Strategy& strategy);
/// Every name that strategy_from_name takes ("direct" without a number).
std::vector<std::string> strategy_names();

/// Number of strands that a shard is cut into.
/// Throws NoSolution if the strategy does not exist for `ranks`.
int strand_count(const Strategy& strategy, int ranks);

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

/// Brings summaries (states of linear layers) to the ranks that need them: one
/// pass forward with payload summary and no tiles. Every part that a rank
/// receives stays to the end in slot owner · strands + strand and is listed in
/// `retained`, also if the rank only passes it on.
Schedule rank_part_of_summaries(const Strategy& strategy, const Demand& demand,
                                Rank rank);
Schedule whole_of_summaries(const Strategy& strategy, const Demand& demand);

}  // namespace ringweave::plan
