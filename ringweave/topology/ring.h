// A directed Hamiltonian cycle over ranks.
#pragma once

#include <vector>

#include "ringweave/base/range.h"

namespace ringweave::topology {

/// A directed cycle that visits each of its ranks once. Immutable.
class Ring {
 public:
  /// `order` lists the ranks in sending order; the last one sends to the first.
  /// Throws InvalidArgument unless it is a permutation of 0 … n-1 with n >= 1.
  explicit Ring(std::vector<Rank> order);

  int size() const { return static_cast<int>(order_.size()); }
  const std::vector<Rank>& order() const { return order_; }

  /// The rank `hops` hops after `rank` (before it, if negative). O(1).
  /// Throws InvalidArgument unless 0 <= rank < size().
  Rank after(Rank rank, int hops) const;
  /// Hops from one rank to another, 0 … size() - 1. Both must be ranks of the
  /// ring; unchecked.
  int hops(Rank from, Rank to) const {
    const int hops = place_[to] - place_[from];
    return hops < 0 ? hops + size() : hops;
  }

 private:
  std::vector<Rank> order_;
  std::vector<int> place_;  // place_[r]: index of r in order_
};

}  // namespace ringweave::topology
