#include "ringweave/planner/demand_bytes.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace ringweave::planner {
namespace {

/// Adds what some query of a run sees, as ranges of positions.
///
/// What a query sees is one range that holds the query's own position, and both
/// ends of it only rise with the position. So the ranges of neighbouring
/// queries touch; those of queries that lie apart may leave gaps.
void add_seen(const schedule::Mask& mask, const schedule::Run& queries,
              std::int64_t tokens, std::vector<Range>& seen) {
  if (queries.length == 0) return;
  if (queries.stride == 1 || mask.is_plain()) {
    seen.push_back(
        {mask.visible_keys(queries.at(0), tokens).begin,
         mask.visible_keys(queries.at(queries.length - 1), tokens).end});
    return;
  }
  for (std::int64_t i = 0; i < queries.length; ++i) {
    seen.push_back(mask.visible_keys(queries.at(i), tokens));
  }
}

/// The positions that some query of the rank sees, as ascending ranges that
/// share none.
std::vector<Range> seen_by(const schedule::AttentionDemand& demand, Rank rank) {
  std::vector<Range> seen;
  for (const schedule::Run& queries : demand.q_layout().runs(rank)) {
    add_seen(demand.mask(), queries, demand.kv_layout().tokens(), seen);
  }
  std::ranges::sort(seen, {}, &Range::begin);
  std::vector<Range> joined;
  for (const Range& range : seen) {
    if (joined.empty() || range.begin > joined.back().end) {
      joined.push_back(range);
    } else {
      joined.back().end = std::max(joined.back().end, range.end);
    }
  }
  return joined;
}

}  // namespace

topology::DemandBytes demand_bytes(const schedule::AttentionDemand& demand,
                                   double unit_bytes) {
  const int n = demand.ranks();
  topology::DemandBytes bytes(n, std::vector<double>(n, 0));
  for (Rank to = 0; to < n; ++to) {
    const std::vector<Range> seen = seen_by(demand, to);
    for (Rank owner = 0; owner < n; ++owner) {
      if (to == owner) continue;
      std::int64_t keys = 0;
      for (const schedule::Run& run : demand.kv_layout().runs(owner)) {
        for (const Range& range : seen) keys += run.indices_in(range).size();
      }
      bytes[to][owner] = unit_bytes * static_cast<double>(keys);
    }
  }
  return bytes;
}

topology::Topology reversed_topology(const topology::Topology& topology) {
  topology::Topology::Spec spec{.name = topology.name() + " reversed",
                                .source = topology.source(),
                                .vertices = {},
                                .links = topology.links(),
                                .ranks_forward = topology.ranks_forward(),
                                .fabric = topology.fabric()};
  for (int i = 0; i < topology.vertices(); ++i) {
    spec.vertices.push_back(topology.vertex(i));
  }
  for (topology::Link& link : spec.links) std::swap(link.from, link.to);
  return topology::Topology(std::move(spec));
}

}  // namespace ringweave::planner
