// Newton's (Dinkelbach's) iteration on cuts. A set of vertices without the
// receiver proves a time: what the receiver needs of the set's ranks, over what
// leaves the set per second. The best set is a minimum cut of a flow network in
// which links carry rate · seconds; a cut that proves more than `seconds` gives
// the next `seconds`, until none does. Capacities are rounded to integers for
// the flow; the cut found is evaluated in floating point, so rounding can cost
// tightness (about 1e-12), never validity.
//
// Links that share a capacity each count with all of it: a relaxation, so the
// bound holds for half-duplex cables too.
#include "ringweave/topology/lower_bound.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/topology/max_flow.h"

namespace ringweave::topology {
namespace {

constexpr const char* kLowerBoundWhere = "[lower_bound]";

void check_demand(const Topology& topology, const DemandBytes& demand) {
  const auto ranks = static_cast<std::size_t>(topology.ranks());
  require(demand.size() == ranks,
          "{} got demands of {} ranks; want {}, one row for each",
          kLowerBoundWhere, demand.size(), ranks);
  for (std::size_t to = 0; to < ranks; ++to) {
    require(demand[to].size() == ranks,
            "{} got demands of rank {} on {} ranks; want {}", kLowerBoundWhere,
            to, demand[to].size(), ranks);
    for (std::size_t from = 0; from < ranks; ++from) {
      require(std::isfinite(demand[to][from]) && demand[to][from] >= 0,
              "{} got {} bytes of rank {} for rank {}; want at least 0",
              kLowerBoundWhere, demand[to][from], from, to);
    }
  }
}

class BoundSearch {
 public:
  BoundSearch(const Topology& topology, const DemandBytes& demand)
      : topology_(topology),
        demand_(demand),
        source_(topology.vertices()),
        network_(topology.vertices() + 1) {
    for (const Link& link : topology.links()) {
      network_.add_arc(link.from, link.to, 0);
    }
    for (Rank rank = 0; rank < topology.ranks(); ++rank) {
      network_.add_arc(source_, rank, 0);
    }
  }

  /// Of what enters ranks and nodes by their own links.
  LowerBound run_ingress() {
    for (Rank to = 0; to < topology_.ranks(); ++to) {
      std::vector<char> others(topology_.vertices(), 1);
      others[to] = 0;
      improve(evaluate(to, others));
      if (topology_.nodes() == 1) continue;
      for (int vertex = 0; vertex < topology_.vertices(); ++vertex) {
        others[vertex] =
            topology_.vertex(vertex).node != topology_.vertex(to).node ? 1 : 0;
      }
      improve(evaluate(to, others));
    }
    return best_;
  }

  LowerBound run() {
    // The tightest cut of most machines, so that later flows only confirm it.
    run_ingress();
    for (Rank to = 0; to < topology_.ranks(); ++to) {
      if (best_.receiver < 0 || needed(to) == 0) continue;
      while (improve(evaluate(to, minimum_cut(to)))) {
      }
    }
    return best_;
  }

 private:
  double needed(Rank to) const {
    return std::accumulate(demand_[to].begin(), demand_[to].end(), 0.0) -
           demand_[to][to];
  }

  /// What a set of vertices without `to` proves.
  LowerBound evaluate(Rank to, const std::vector<char>& inside) const {
    LowerBound bound{.receiver = to};
    for (int vertex = 0; vertex < topology_.vertices(); ++vertex) {
      if (!inside[vertex]) continue;
      bound.inside.push_back(vertex);
      if (vertex < topology_.ranks()) bound.bytes += demand_[to][vertex];
    }
    for (const Link& link : topology_.links()) {
      if (inside[link.from] && !inside[link.to]) {
        bound.bytes_per_second += link.bytes_per_second;
      }
    }
    if (bound.bytes == 0) return bound;
    require(bound.bytes_per_second > 0,
            "{} rank {} needs data that no path brings; want a topology that "
            "joins all ranks",
            kLowerBoundWhere, to);
    bound.seconds = bound.bytes / bound.bytes_per_second;
    return bound;
  }

  bool improve(LowerBound bound) {
    constexpr double kNoise = 1e-13;  // of sums in another order
    if (bound.seconds <= best_.seconds * (1 + kNoise)) return false;
    best_ = std::move(bound);
    return true;
  }

  std::vector<char> minimum_cut(Rank to) {
    constexpr double kUnits = 0x1p50;
    const double total = needed(to);
    const auto units = [&](double bytes) {
      return static_cast<std::int64_t>(
          std::llround(std::min(bytes / total, 1.0) * kUnits));
    };
    int arc = 0;
    for (const Link& link : topology_.links()) {
      network_.set_capacity(arc++,
                            units(link.bytes_per_second * best_.seconds));
    }
    for (Rank from = 0; from < topology_.ranks(); ++from) {
      network_.set_capacity(arc++, from == to ? 0 : units(demand_[to][from]));
    }
    network_.max_flow(source_, to);
    return network_.source_side();
  }

  const Topology& topology_;
  const DemandBytes& demand_;
  int source_;
  FlowNetwork network_;
  LowerBound best_;
};

/// What can enter `ranks` ranks of one node, chosen such that it is least: from
/// the node's other ranks, and over the NICs. NICs are filled one by one; the
/// cut passes a shared NIC on either side.
double into_part_of_node(const Fabric& fabric, int ranks) {
  const int others = fabric.ranks_per_node() - ranks;
  const double links = fabric.inside == FabricKind::mesh
                           ? static_cast<double>(ranks) * others
                           : std::min(ranks, others);
  const int sharing = fabric.ranks_per_node() / fabric.nics_per_node;
  const int rest = ranks % sharing;
  const int nics = ranks / sharing + std::min(rest, 1 + sharing - rest);
  return links * fabric.link_bytes_per_second +
         nics * fabric.nic_bytes_per_second;
}

/// In shards; any set of ranks that touches several nodes proves less than its
/// part in one of them.
double two_level_seconds(const Fabric& fabric) {
  double seconds = 0;
  const int most = std::min(fabric.ranks_per_node(), fabric.ranks - 1);
  for (int part = 1; part <= most; ++part) {
    seconds = std::max(seconds,
                       (fabric.ranks - part) / into_part_of_node(fabric, part));
  }
  return seconds;
}

/// A torus looks the same from each rank, so no cut is narrower than the links
/// of one rank (Mader). A side of 2 has one link between its two ranks.
int torus_links(const Fabric& fabric) {
  return std::accumulate(
      fabric.dimensions.begin(), fabric.dimensions.end(), 0,
      [](int links, int side) { return links + (side == 2 ? 1 : 2); });
}

}  // namespace

LowerBound lower_bound(const Topology& topology, const DemandBytes& demand) {
  check_demand(topology, demand);
  return BoundSearch(topology, demand).run();
}

LowerBound ingress_bound(const Topology& topology, const DemandBytes& demand) {
  check_demand(topology, demand);
  return BoundSearch(topology, demand).run_ingress();
}

std::optional<double> closed_form_bound(const Fabric& fabric,
                                        double shard_bytes) {
  check(fabric);
  require(std::isfinite(shard_bytes) && shard_bytes >= 0,
          "[closed_form_bound] got shards of {} bytes; want at least 0",
          shard_bytes);
  if (fabric.ranks == 1) return 0;
  const double others = fabric.ranks - 1;
  const double rate = fabric.link_bytes_per_second;
  switch (fabric.kind) {
    case FabricKind::mesh:
      return shard_bytes / rate;
    case FabricKind::switch_:
      return others * shard_bytes / rate;
    case FabricKind::ring:
      return others * shard_bytes / ((fabric.ranks == 2 ? 1 : 2) * rate);
    case FabricKind::torus:
      return others * shard_bytes / (torus_links(fabric) * rate);
    case FabricKind::two_level:
      return two_level_seconds(fabric) * shard_bytes;
  }
  return std::nullopt;
}

}  // namespace ringweave::topology
