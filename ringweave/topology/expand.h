// A regular fabric link by link.
#pragma once

#include "ringweave/topology/fabric.h"
#include "ringweave/topology/topology.h"

namespace ringweave::topology {

/// Every link of a regular fabric. two_level: a NIC vertex per NIC, a spine
/// switch that never blocks; ranks of a NIC share it. Latencies are those of a
/// whole route: through a switch, and from NIC to NIC, half falls on each link.
/// Ranks of a ring or torus pass traffic on. InvalidArgument beyond 4 million
/// links.
Topology expand(const Fabric& fabric);

/// The same, to be given a name and a source before it becomes a Topology.
Topology::Spec expanded(const Fabric& fabric);

/// Adds both directions of a cable.
void add_cable(Topology::Spec& spec, const Link& link);

}  // namespace ringweave::topology
