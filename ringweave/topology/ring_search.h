// Rings that share no link, in a topology of any shape.
//
//   const RingSet set = disjoint_rings(builtin("dgx-1"));
//   set.rings.size();          // of at most set.at_most
//   set.bytes_per_second;      // that each of them has for itself
#pragma once

#include <vector>

#include "ringweave/topology/ring.h"
#include "ringweave/topology/topology.h"

namespace ringweave::topology {

/// Above this, disjoint_rings refuses: the search can take minutes.
inline constexpr int kMaxSearchedRanks = 128;

struct RingSet {
  /// Each hop takes the topology's route. A link twice as fast as
  /// `bytes_per_second` may serve two rings, and so may a port of a switch.
  std::vector<Ring> rings;
  double bytes_per_second = 0;
  /// No more rings of this rate exist: every one leaves each rank once, enters
  /// it once, and crosses each cut both ways.
  int at_most = 0;

  bool is_maximum() const { return static_cast<int>(rings.size()) == at_most; }
};

/// As many rings as a seeded search finds, of the rate at which they carry most
/// together; the rates tried are those of the links and simple fractions of
/// them. Depends on the topology only, so all processes agree without a
/// message; seconds at most at 64 ranks. No rings for one rank. Throws
/// InvalidArgument if ranks can't be reached or are more than
/// kMaxSearchedRanks, NoSolution if not even one ring is found.
RingSet disjoint_rings(const Topology& topology);

}  // namespace ringweave::topology
