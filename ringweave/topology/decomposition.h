// Splits the links of a fully connected group into rings that share no link.
//
// One ring keeps one outgoing link of each rank busy. When n ranks are joined
// all-to-all, n - 1 rings together use every link in both directions, each
// once. schedule/strategy/walks.h turns them into walks of blocks.
//
//   const std::vector<Ring> rings = link_disjoint_rings(8);  // 7 rings
//   const Rank to = rings[0].after(3, 1);  // where rank 3 sends on the first
#pragma once

#include <vector>

#include "ringweave/topology/ring.h"

namespace ringweave::topology {

/// Above this, link_disjoint_rings refuses: the search would take too long for
/// even numbers.
inline constexpr int kMaxDecomposedRanks = 1024;

/// Returns `ranks - 1` rings that together use each directed link exactly once.
///
/// Up to 128 ranks found by a seeded search, above that by a construction that
/// for odd numbers is all, and for even ones leaves little to the search.
/// Depends only on `ranks`, so all processes agree without a message;
/// milliseconds up to 64 ranks, about a second at most beyond. Throws
/// InvalidArgument if ranks < 2 or ranks > kMaxDecomposedRanks, and NoSolution
/// for 4 and 6, where no such set exists.
std::vector<Ring> link_disjoint_rings(int ranks);

}  // namespace ringweave::topology
