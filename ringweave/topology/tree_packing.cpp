// step_graph follows ForestColl (arXiv 2402.06787) with two changes: capacities
// are rounded down to whole strands per step, and switches are removed by
// handing their capacity to whole routes, since hops take the one route that
// the topology names. Either may fail where ForestColl's edge splitting can't;
// the caller then allows a little more time.
#include "ringweave/topology/tree_packing.h"

#include <algorithm>
#include <map>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/topology/max_flow.h"

namespace ringweave::topology {
namespace {

/// Strands per step of each link.
std::vector<int> shares(const Topology& topology, double strands_per_rate) {
  std::map<int, int> sharers;
  for (const Link& link : topology.links()) ++sharers[link.shared];
  std::vector<int> all;
  for (const Link& link : topology.links()) {
    const int parts = link.shared < 0 ? 1 : sharers[link.shared];
    // A share that is whole up to rounding is meant to be whole.
    constexpr double kRounding = 1e-9;
    const double share = link.bytes_per_second / parts * strands_per_rate;
    all.push_back(static_cast<int>(std::min(share + kRounding, 1e6)));
  }
  return all;
}

/// Hands the links' shares to routes, and tells whether the trees still fit.
class Sharing {
 public:
  Sharing(const Topology& topology, std::span<const Route> routes, int strands,
          int steps, double seconds)
      : topology_(topology),
        strands_(strands),
        steps_(steps),
        left_(shares(topology, seconds * strands / steps)),
        routes_(routes),
        given_(routes_.size(), 0) {}

  /// A quick no for most of what does not fit.
  bool fits_into_ranks() const {
    std::vector<std::int64_t> in(topology_.vertices(), 0);
    for (std::size_t i = 0; i < left_.size(); ++i) {
      in[topology_.links()[i].to] += left_[i];
    }
    const std::int64_t want =
        std::int64_t{1} * strands_ * (topology_.ranks() - 1);
    return std::all_of(
        in.begin(), in.begin() + topology_.ranks(),
        [&](std::int64_t strands) { return strands * steps_ >= want; });
  }

  /// Whether all ranks can be reached by what was given and what is left.
  bool fits() const {
    const int source = topology_.vertices();
    FlowNetwork network(source + 1);
    for (std::size_t i = 0; i < left_.size(); ++i) {
      const Link& link = topology_.links()[i];
      if (left_[i] > 0) network.add_arc(link.from, link.to, left_[i] * steps_);
    }
    for (std::size_t i = 0; i < routes_.size(); ++i) {
      if (given_[i] == 0) continue;
      network.add_arc(routes_[i].from, routes_[i].to, given_[i] * steps_);
    }
    const int ranks = topology_.ranks();
    for (Rank rank = 0; rank < ranks; ++rank) {
      network.add_arc(source, rank, strands_);
    }
    for (Rank rank = 0; rank < ranks; ++rank) {
      if (network.max_flow(source, rank) != strands_ * ranks) return false;
    }
    return true;
  }

  /// Hands out all shares without looking at what the trees need.
  void spread_all() {
    given_ = spread(routes_, std::move(left_));
    left_.assign(topology_.links().size(), 0);
  }

  /// One strand per route and round, but nothing that a rank can't do without.
  void spread_with_care() {
    std::vector<char> refused(routes_.size(), 0);
    for (bool more = true; more;) {
      more = false;
      for (std::size_t i = 0; i < routes_.size(); ++i) {
        const int most = room(routes_[i], left_);
        if (refused[i] || most == 0) continue;
        const int strands = direct(i) ? most : 1;
        give(i, strands);
        refused[i] = !direct(i) && !fits();
        if (refused[i]) give(i, -strands);
        more = more || !refused[i];
      }
    }
    std::fill(left_.begin(), left_.end(), 0);
  }

  StepGraph graph() const {
    StepGraph graph{.ranks = topology_.ranks(),
                    .strands = strands_,
                    .steps = steps_,
                    .edges = {}};
    for (std::size_t i = 0; i < routes_.size(); ++i) {
      if (given_[i] == 0) continue;
      graph.edges.push_back({routes_[i].from, routes_[i].to, given_[i]});
    }
    return graph;
  }

 private:
  bool direct(std::size_t route) const {
    return routes_[route].links.size() == 1;
  }

  void give(std::size_t route, int strands) {
    given_[route] += strands;
    for (const int link : routes_[route].links) left_[link] -= strands;
  }

  const Topology& topology_;
  int strands_;
  int steps_;
  std::vector<int> left_;  // strands per step, [link]
  std::span<const Route> routes_;
  std::vector<int> given_;  // strands per step, [route]
};

}  // namespace

std::optional<StepGraph> step_graph(const Topology& topology,
                                    std::span<const Route> routes, int strands,
                                    int steps, double seconds) {
  require(topology.ranks() <= kMaxPackedRanks,
          "[tree packing] got {} ranks; want at most {}", topology.ranks(),
          kMaxPackedRanks);
  Sharing sharing(topology, routes, strands, steps, seconds);
  if (!sharing.fits_into_ranks() || !sharing.fits()) return std::nullopt;
  Sharing careful = sharing;
  sharing.spread_all();
  if (sharing.fits()) return sharing.graph();
  if (topology.vertices() == topology.ranks()) return std::nullopt;
  careful.spread_with_care();
  if (!careful.fits()) return std::nullopt;
  return careful.graph();
}

bool can_complete(const StepGraph& graph, std::span<const int> room,
                  std::span<const RankSet> trees, Rank rank) {
  std::map<RankSet, int> missing;  // trees by their ranks, how many
  int count = 0;
  for (const RankSet tree : trees) {
    if (tree >> rank & 1) continue;
    ++missing[tree];
    ++count;
  }
  if (count == 0) return true;
  const int source = graph.ranks;
  int vertex = source + 1;
  FlowNetwork network(source + 1 + static_cast<int>(missing.size()));
  for (std::size_t e = 0; e < graph.edges.size(); ++e) {
    if (room[e] == 0) continue;
    network.add_arc(graph.edges[e].from, graph.edges[e].to, room[e]);
  }
  for (const auto& [tree, times] : missing) {
    network.add_arc(source, vertex, times);
    for (Rank member = 0; member < graph.ranks; ++member) {
      if (tree >> member & 1) network.add_arc(vertex, member, times);
    }
    ++vertex;
  }
  return network.max_flow(source, rank) == count;
}

}  // namespace ringweave::topology
