// Regular fabrics in symbolic form, for closed forms at any size.
//
// A Fabric is a few numbers; builtin.h expands one into a Topology, which holds
// every link. Ranks are numbered node by node.
#pragma once

#include <string>
#include <vector>

namespace ringweave::topology {

enum class FabricKind {
  mesh,       ///< a link between each two ranks
  switch_,    ///< each rank has one port into a non-blocking switch
  ring,       ///< rank r has links to r - 1 and r + 1
  torus,      ///< a grid of 2 or 3 dimensions whose lines are rings
  two_level,  ///< nodes, each a mesh or a switch inside, joined by NICs
};

/// Rates are bytes per second of one direction; every link is full duplex.
/// Latencies are of a whole route: from rank to rank through the switch, and
/// from NIC to NIC.
struct Fabric {
  FabricKind kind = FabricKind::mesh;
  int ranks = 1;  ///< of the whole fabric
  /// mesh, ring, torus: of a link (two_level: inside a node). switch_: of a
  /// rank's port.
  double link_bytes_per_second = 0;
  double link_latency_seconds = 0;
  std::vector<int> dimensions = {};  ///< torus: their product is `ranks`
  // two_level only:
  int nodes = 1;
  FabricKind inside = FabricKind::mesh;  ///< mesh or switch_
  double nic_bytes_per_second = 0;       ///< of one NIC, each direction
  double nic_latency_seconds = 0;
  int nics_per_node = 0;  ///< the node's ranks share them evenly, each its own
                          ///< if there are as many as ranks
  friend bool operator==(const Fabric&, const Fabric&) = default;

  int ranks_per_node() const { return ranks / nodes; }
};

const char* name(FabricKind);

/// Throws InvalidArgument naming the first number that makes no sense.
void check(const Fabric& fabric);

}  // namespace ringweave::topology
