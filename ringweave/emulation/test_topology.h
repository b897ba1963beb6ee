// A machine for tests.
#pragma once

#include <fmt/format.h>

#include "ringweave/topology/topology.h"

namespace ringweave::emulation {

/// `ranks` ranks with a port of 100 bytes per second to a switch. `latency`, in
/// seconds, is of each way through a port.
inline topology::Topology star(int ranks, double latency = 0.5) {
  topology::Topology::Spec spec{
      .name = "star", .source = {}, .vertices = {}, .links = {}};
  for (Rank rank = 0; rank < ranks; ++rank) {
    spec.vertices.push_back(
        {topology::VertexKind::rank, fmt::format("r{}", rank), 0});
    spec.links.push_back({rank, ranks, 100, latency, "port"});
    spec.links.push_back({ranks, rank, 100, latency, "port"});
  }
  spec.vertices.push_back({topology::VertexKind::switch_, "switch", -1});
  return topology::Topology(std::move(spec));
}

}  // namespace ringweave::emulation
