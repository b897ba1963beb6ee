#include "ringweave/topology/topology.h"

#include <algorithm>
#include <limits>
#include <queue>
#include <set>
#include <tuple>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/topology/limits.h"

namespace ringweave::topology {
namespace {

constexpr const char* kTopologyWhere = "[topology]";

void check_link(const Topology::Spec& spec, const Link& link) {
  const int count = static_cast<int>(spec.vertices.size());
  require(
      link.from >= 0 && link.from < count && link.to >= 0 && link.to < count,
      "{} got a link from vertex {} to vertex {}; want vertices 0 … {}",
      kTopologyWhere, link.from, link.to, count - 1);
  const std::string& from = spec.vertices[link.from].name;
  const std::string& to = spec.vertices[link.to].name;
  require(link.from != link.to, "{} got a link from {} to itself",
          kTopologyWhere, from);
  require(is_rate(link.bytes_per_second),
          "{} got {} bytes per second from {} to {}; want {} … {}",
          kTopologyWhere, link.bytes_per_second, from, to, kMinBytesPerSecond,
          kMaxBytesPerSecond);
  require(is_latency(link.latency_seconds),
          "{} got a latency of {} seconds from {} to {}; want 0 … {}",
          kTopologyWhere, link.latency_seconds, from, to, kMaxLatencySeconds);
}

/// How a vertex is best reached, compared field by field. Links all count as
/// one hop, so vertices are settled in waves of equal `hops`.
struct Reach {
  int hops = std::numeric_limits<int>::max();
  double bytes_per_second = 0;
  double latency_seconds = 0;
  int link = -1;  ///< the last one

  bool reached() const { return hops != std::numeric_limits<int>::max(); }
};

bool better(const Reach& a, const Reach& b, const std::vector<Link>& links) {
  if (a.hops != b.hops) return a.hops < b.hops;
  if (a.bytes_per_second != b.bytes_per_second) {
    return a.bytes_per_second > b.bytes_per_second;
  }
  if (a.latency_seconds != b.latency_seconds) {
    return a.latency_seconds < b.latency_seconds;
  }
  return links[a.link].from < links[b.link].from;
}

std::vector<Reach> reach_from(const Topology& topology, int start,
                              bool through_ranks) {
  std::vector<Reach> reach(topology.vertices());
  reach[start] = {0, std::numeric_limits<double>::infinity(), 0, -1};
  std::vector<int> wave = {start};
  while (!wave.empty()) {
    std::vector<int> next;
    for (const int at : wave) {
      if (at != start && at < topology.ranks() && !through_ranks) continue;
      for (const int index : topology.outgoing(at)) {
        const Link& link = topology.links()[index];
        const Reach candidate = {
            reach[at].hops + 1,
            std::min(reach[at].bytes_per_second, link.bytes_per_second),
            reach[at].latency_seconds + link.latency_seconds, index};
        Reach& target = reach[link.to];
        if (!target.reached()) {
          next.push_back(link.to);
          target = candidate;
        } else if (better(candidate, target, topology.links())) {
          target = candidate;
        }
      }
    }
    wave = std::move(next);
  }
  return reach;
}

std::vector<int> route_of(const std::vector<Reach>& reach, int start, int end,
                          const std::vector<Link>& links) {
  std::vector<int> route;
  if (!reach[end].reached()) return route;
  for (int at = end; at != start; at = links[route.back()].from) {
    route.push_back(reach[at].link);
  }
  std::reverse(route.begin(), route.end());
  return route;
}

}  // namespace

Topology::Topology(Spec spec) : spec_(std::move(spec)) {
  const auto is_rank = [](const Vertex& vertex) {
    return vertex.kind == VertexKind::rank;
  };
  const auto& vertices = spec_.vertices;
  const auto first_other =
      std::find_if_not(vertices.begin(), vertices.end(), is_rank);
  ranks_ = static_cast<int>(first_other - vertices.begin());
  require(ranks_ >= 1, "{} got no rank; want at least 1", kTopologyWhere);
  require(std::none_of(first_other, vertices.end(), is_rank),
          "{} got a rank after a {}; want the ranks first", kTopologyWhere,
          first_other == vertices.end() ? "rank"
                                        : topology::name(first_other->kind));
  out_.resize(vertices.size());
  in_.resize(vertices.size());
  std::set<std::pair<int, int>> seen;
  for (std::size_t i = 0; i < spec_.links.size(); ++i) {
    const Link& link = spec_.links[i];
    check_link(spec_, link);
    require(seen.emplace(link.from, link.to).second,
            "{} got two links from {} to {}; want one with the sum of their "
            "rates",
            kTopologyWhere, vertices[link.from].name, vertices[link.to].name);
    out_[link.from].push_back(static_cast<int>(i));
    in_[link.to].push_back(static_cast<int>(i));
  }
}

int Topology::nodes() const {
  std::set<int> numbers;
  for (Rank rank = 0; rank < ranks_; ++rank) {
    numbers.insert(spec_.vertices[rank].node);
  }
  return static_cast<int>(numbers.size());
}

std::optional<int> Topology::link(int from, int to) const {
  for (const int index : out_[from]) {
    if (spec_.links[index].to == to) return index;
  }
  return std::nullopt;
}

std::vector<int> Topology::route(Rank from, Rank to) const {
  return route_of(reach_from(*this, from, ranks_forward()), from, to, links());
}

std::vector<std::vector<int>> Topology::routes(Rank from) const {
  const std::vector<Reach> reach = reach_from(*this, from, ranks_forward());
  std::vector<std::vector<int>> all(ranks_);
  for (Rank to = 0; to < ranks_; ++to) {
    all[to] = route_of(reach, from, to, links());
  }
  return all;
}

void Topology::check_connected() const {
  for (Rank from = 0; from < ranks_; ++from) {
    const std::vector<Reach> reach = reach_from(*this, from, true);
    for (Rank to = 0; to < ranks_; ++to) {
      require(reach[to].reached(),
              "{} no path from {} to {}; want every rank reachable from every "
              "other",
              kTopologyWhere, vertex(from).name, vertex(to).name);
    }
  }
}

const char* name(VertexKind kind) {
  switch (kind) {
    case VertexKind::rank:
      return "rank";
    case VertexKind::switch_:
      return "switch";
    case VertexKind::nic:
      return "nic";
    case VertexKind::host:
      return "host";
  }
  throw InternalError("bug in ringweave: a vertex of no kind");
}

}  // namespace ringweave::topology
