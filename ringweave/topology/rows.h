// Sets of rings as rows, and exchanges between two rows. Internal to the
// searches for rings.
#pragma once

#include <optional>
#include <vector>

#include "ringweave/topology/random.h"
#include "ringweave/topology/ring.h"

namespace ringweave::topology {

/// A permutation without fixed points: row[i] is where rank i sends. A ring, if
/// it is a single cycle.
using Row = std::vector<int>;

int cycle_count(const Row& row);
/// Throws InternalError unless the row is a single cycle.
Ring to_ring(const Row& row);

/// Two rows that together hold the same hops as two others.
struct Exchange {
  Row a;
  Row b;
  int extra_a = 0;  ///< cycles beyond the first
  int extra_b = 0;
  int extra() const { return extra_a + extra_b; }
};

/// The union of two rows falls into alternating components: sets of ranks that
/// both rows send to the same ranks. The rows exchange their hops on a random
/// choice of components; of some tries, the one with the fewest cycles. nullopt
/// if there is only one component.
std::optional<Exchange> best_exchange(const Row& a, const Row& b,
                                      Random& random);

}  // namespace ringweave::topology
