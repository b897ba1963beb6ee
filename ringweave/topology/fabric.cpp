#include "ringweave/topology/fabric.h"

#include "ringweave/base/error.h"
#include "ringweave/topology/limits.h"

namespace ringweave::topology {
namespace {

void check_rate(double rate, const char* what) {
  require(is_rate(rate), "[fabric] got {} {} bytes per second; want {} … {}",
          what, rate, kMinBytesPerSecond, kMaxBytesPerSecond);
}

void check_latency(double latency, const char* what) {
  require(is_latency(latency),
          "[fabric] got a latency of {} seconds of the {}; want 0 … {}",
          latency, what, kMaxLatencySeconds);
}

void check_torus(const Fabric& fabric) {
  const auto dimensions = fabric.dimensions.size();
  require(dimensions == 2 || dimensions == 3,
          "[fabric] got a torus of {} dimensions; want 2 or 3", dimensions);
  long long product = 1;
  for (const int size : fabric.dimensions) {
    require(size >= 2,
            "[fabric] got a torus with a side of {}; want at least 2", size);
    product *= size;
  }
  require(product == fabric.ranks,
          "[fabric] got {} ranks in a torus of {} places; want the same",
          fabric.ranks, product);
}

void check_two_level(const Fabric& fabric) {
  require(fabric.nodes >= 1 && fabric.ranks % fabric.nodes == 0,
          "[fabric] got {} ranks in {} nodes; want as many in each",
          fabric.ranks, fabric.nodes);
  require(
      fabric.inside == FabricKind::mesh || fabric.inside == FabricKind::switch_,
      "[fabric] got nodes that are a {} inside; want mesh or switch",
      name(fabric.inside));
  check_rate(fabric.nic_bytes_per_second, "NICs of");
  check_latency(fabric.nic_latency_seconds, "NICs");
  require(fabric.nics_per_node >= 1 &&
              fabric.ranks_per_node() % fabric.nics_per_node == 0,
          "[fabric] got {} NICs for the {} ranks of a node; want a number that "
          "divides them",
          fabric.nics_per_node, fabric.ranks_per_node());
}

}  // namespace

const char* name(FabricKind kind) {
  switch (kind) {
    case FabricKind::mesh:
      return "mesh";
    case FabricKind::switch_:
      return "switch";
    case FabricKind::ring:
      return "ring";
    case FabricKind::torus:
      return "torus";
    case FabricKind::two_level:
      return "two_level";
  }
  throw InternalError("bug in ringweave: a fabric of no kind");
}

void check(const Fabric& fabric) {
  require(fabric.ranks >= 1, "[fabric] got {} ranks; want at least 1",
          fabric.ranks);
  check_rate(fabric.link_bytes_per_second, "links of");
  check_latency(fabric.link_latency_seconds, "links");
  if (fabric.kind == FabricKind::torus) check_torus(fabric);
  if (fabric.kind == FabricKind::two_level) check_two_level(fabric);
}

}  // namespace ringweave::topology
