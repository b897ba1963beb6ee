// Where blocks are on their way through the nodes of a hierarchical schedule,
// and who needs them there (hierarchical_schedule.h says what a phase and a
// holder are).
#pragma once

#include <algorithm>

#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/strategy/hierarchical_schedule.h"

namespace ringweave::schedule {

/// A stop on a block's way: in its node of phase `phase`, stop 0 is the
/// holder; along an inner walk stop i is i hops from it, else a peer.
struct Stop {
  BlockId block;
  int phase = 0;
  int index = 0;

  bool is_owner() const { return phase == 0 && index == 0; }
};

class Stops {
 public:
  /// Both must outlive this. Throws InternalError if their ranks differ.
  Stops(const Hierarchy& hierarchy, const Demand& demand);

  const Hierarchy& hierarchy() const { return hierarchy_; }
  const Demand& demand() const { return demand_; }

  int slice(const BlockId& block) const {
    return block.strand / hierarchy_.inner_strands();
  }
  /// The inner walk that the block takes.
  int piece(const BlockId& block) const {
    return block.strand % hierarchy_.inner_strands();
  }
  bool is_direct() const { return !hierarchy_.inner; }
  /// Hops from the holder.
  int depth(int index) const {
    return is_direct() ? std::min(index, 1) : index;
  }
  /// The stop that spreads to `index`, which is not 0.
  int parent(int index) const { return is_direct() ? 0 : index - 1; }

  Rank rank_at(const Stop& at) const;
  /// The owner of the block of `strand` that is at (phase, index) on `rank`.
  Rank owner_at(int strand, Rank rank, int phase, int index) const;

  bool needs(const Stop& at) const {
    return demand_.needs(rank_at(at), at.block, strands_);
  }
  /// The last stop of a node that needs the part; 0 if none but the holder.
  int last_index(const BlockId& block, int phase) const;
  /// The first one behind the holder's; the number of stops if none.
  int first_index(const BlockId& block, int phase) const;
  bool node_needs(const BlockId& block, int phase) const;
  /// Of the phases from 1 whose nodes need the part; last 0, first the number
  /// of nodes: none.
  int last_phase(const BlockId& block) const;
  int first_phase(const BlockId& block) const;
  /// Whether the spread brings the part to a stop other than the holder's.
  bool is_on_the_way(const Stop& at) const;

  /// The stops that `at` spreads to.
  template <typename Visit>
  void for_each_child(const Stop& at, Visit visit) const {
    if (is_direct() && at.index > 0) return;
    const int m = hierarchy_.ranks_per_node;
    const int end = is_direct() ? m : std::min(at.index + 2, m);
    for (int index = at.index + 1; index < end; ++index) {
      const Stop child{at.block, at.phase, index};
      if (is_on_the_way(child)) visit(child);
    }
  }

 private:
  const Hierarchy& hierarchy_;
  const Demand& demand_;
  int strands_;
};

}  // namespace ringweave::schedule
