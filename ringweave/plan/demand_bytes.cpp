#include "ringweave/plan/demand_bytes.h"

#include <utility>
#include <vector>

namespace ringweave::plan {

topology::DemandBytes demand_bytes(const Demand& demand, double unit_bytes) {
  const int n = demand.ranks();
  topology::DemandBytes bytes(n, std::vector<double>(n, 0));
  for (Rank owner = 0; owner < n; ++owner) {
    for (int part = 0; part < demand.parts(owner); ++part) {
      const BlockId block{owner, 0, part};
      const auto size = static_cast<double>(demand.size(block, 1));
      for (Rank to = 0; to < n; ++to) {
        if (to != owner && demand.needs(to, block, 1)) {
          bytes[to][owner] += size * unit_bytes;
        }
      }
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

}  // namespace ringweave::plan
