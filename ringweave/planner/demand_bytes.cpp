#include "ringweave/planner/demand_bytes.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace ringweave::planner {
namespace {

/// Of a run of keys those that some row of the area sees, by index.
void add_seen(const schedule::Area& area, std::vector<Range>& seen) {
  using Kind = schedule::Area::Kind;
  const schedule::Band& band = area.band;
  // What neighbouring rows see touches, or is one key further on.
  if (area.kind != Kind::band || band.row_stride == band.key_stride ||
      band.high - band.low >= band.row_stride - 1) {
    seen.push_back(area.keys);
    return;
  }
  // Rows that lie further apart than they see: each has keys of its own.
  for (std::int64_t i = 0; i < area.rows.size(); ++i) {
    seen.push_back(area.seen(i));
  }
}

std::int64_t joined_size(std::vector<Range> ranges) {
  std::ranges::sort(ranges, {}, &Range::begin);
  std::int64_t size = 0;
  std::int64_t end = 0;
  for (const Range& range : ranges) {
    size += Range{std::max(end, range.begin), range.end}.size();
    end = std::max(end, range.end);
  }
  return size;
}

/// Keys of the run that some query of the rank sees.
std::int64_t seen_keys(const schedule::AttentionDemand& demand, Rank rank,
                       const schedule::Run& keys) {
  std::vector<Range> seen;
  for (const schedule::Area& area : demand.areas(rank, keys)) {
    add_seen(area, seen);
  }
  return joined_size(std::move(seen));
}

}  // namespace

topology::DemandBytes demand_bytes(const schedule::AttentionDemand& demand,
                                   double unit_bytes) {
  const int n = demand.ranks();
  topology::DemandBytes bytes(n, std::vector<double>(n, 0));
  for (Rank to = 0; to < n; ++to) {
    for (Rank owner = 0; owner < n; ++owner) {
      if (to == owner) continue;
      std::int64_t keys = 0;
      for (const schedule::Run& run : demand.kv_layout().runs(owner)) {
        keys += seen_keys(demand, to, run);
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

topology::LowerBound transfer_bound(const topology::Topology& topology,
                                    const schedule::AttentionDemand& demand,
                                    schedule::Pass pass, double unit_bytes) {
  return topology::lower_bound(
      pass == schedule::Pass::forward ? topology : reversed_topology(topology),
      demand_bytes(demand, unit_bytes));
}

}  // namespace ringweave::planner
