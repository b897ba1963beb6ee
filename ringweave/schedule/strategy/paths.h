// Rings over nodes that are fully connected inside and joined by rails (TASP's
// m-K_m-m).
//
// A ring takes one Hamiltonian path inside each node and then goes on to the
// next node. Inside a node the rings share out all links: each has a path of
// its own, and the paths use every link once.
#pragma once

#include <vector>

#include "ringweave/topology/ring.h"

namespace ringweave::schedule {

/// m rings over nodes · m ranks, numbered node by node. Together they use every
/// link inside a node once, and each rank sends to the next node once: with an
/// even number of nodes always to the same local rank, with an odd number all
/// but from the last node to the first.
/// Throws InvalidArgument unless nodes >= 2, and NoSolution unless m is even.
std::vector<topology::Ring> path_rings(int nodes, int ranks_per_node);

}  // namespace ringweave::schedule
