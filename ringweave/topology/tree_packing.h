// Room for trees: how many strands each two ranks can exchange in a step, and
// whether trees that are half grown can still reach every rank.
//
// planner/search/synthesis.h grows one tree for each strand of each owner.
// Trees that use no link more than its share, and none of which is ever cut
// off, exist exactly if every set of ranks can take in all strands that are not
// in it yet (Edmonds; Schrijver for half-grown trees). A maximum flow to each
// rank tells.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "ringweave/base/range.h"
#include "ringweave/topology/hop_routes.h"
#include "ringweave/topology/topology.h"

namespace ringweave::topology {

/// The ranks of a set as bits.
using RankSet = std::uint64_t;
inline constexpr int kMaxPackedRanks = 64;

/// What can be sent from rank to rank in one step of equal steps: switches are
/// gone, every edge stands for the whole route between its two ranks.
struct StepGraph {
  struct Edge {
    Rank from = 0;
    Rank to = 0;
    int strands = 0;  ///< per step, > 0
  };
  int ranks = 1;
  int strands = 1;  ///< that a shard is cut into
  int steps = 1;    ///< in which the trees of all owners fit
  std::vector<Edge> edges;
};

/// Shares out the links if every rank is to have every shard of `strands`
/// strands after `steps` steps that take `seconds` together per byte of a
/// shard. nullopt if the trees don't fit, or none are found where routes
/// through switches compete. Links with one capacity share it evenly. Throws
/// InvalidArgument for more than kMaxPackedRanks ranks.
std::optional<StepGraph> step_graph(const Topology& topology,
                                    std::span<const Route> routes, int strands,
                                    int steps, double seconds);

/// Whether trees can still bring everything to `rank`, when edge e of the graph
/// is left with `room`[e] strands in all steps, and `trees` are the ranks that
/// each has reached. If so for every rank, all trees can be completed at once.
bool can_complete(const StepGraph& graph, std::span<const int> room,
                  std::span<const RankSet> trees, Rank rank);

}  // namespace ringweave::topology
