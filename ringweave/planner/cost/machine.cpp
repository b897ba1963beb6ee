#include "ringweave/planner/cost/machine.h"

#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/base/hash.h"
#include "ringweave/topology/topology_file.h"

namespace ringweave::planner {
namespace {

std::string hashed(const Json& json) {
  return fmt::format("{:016x}", fnv1a(json.dump()));
}

Json facts(const topology::Fabric& fabric) {
  return {topology::name(fabric.kind),
          fabric.ranks,
          fabric.link_bytes_per_second,
          fabric.link_latency_seconds,
          fabric.dimensions,
          fabric.nodes,
          topology::name(fabric.inside),
          fabric.nic_bytes_per_second,
          fabric.nic_latency_seconds,
          fabric.nics_per_node};
}

}  // namespace

Machine load_machine(const std::string& name_or_path) {
  if (const auto fabric = topology::load_fabric(name_or_path);
      fabric && fabric->ranks > kMaxExpandedRanks) {
    return {.name = name_or_path,
            .hash = hashed(facts(*fabric)),
            .topology = nullptr,
            .fabric = fabric};
  }
  auto topology = std::make_shared<const topology::Topology>(
      topology::load_topology(name_or_path));
  require(topology->ranks() <= kMaxPlannedRanks,
          "[plan] got {} ranks in {}; want at most {}, or a regular fabric by "
          "its name",
          topology->ranks(), name_or_path, kMaxPlannedRanks);
  topology->check_connected();
  return {.name = name_or_path,
          .hash = hashed(topology::to_json(*topology)),
          .topology = topology,
          .fabric = topology->fabric()};
}

}  // namespace ringweave::planner
