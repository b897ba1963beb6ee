// When a hierarchical schedule sends what, and in which slots it lies: the
// turns of hierarchical_schedule.h. k: slices; D: steps of a turn; u: nodes.
#pragma once

#include "ringweave/schedule/strategy/hierarchical_stops.h"

namespace ringweave::schedule {

class Turns {
 public:
  struct Steps {
    int post = 0;
    int wait = 0;
  };

  /// `stops` must outlive this.
  Turns(const Stops& stops, Pass pass, Payload payload);

  /// When keys and values, or summaries, reach a stop by the spread. Of the
  /// holder, which is 0 hops away: when it posts.
  int spread_step(const Stop& at) const {
    return turn(at.block, at.phase) * spread_ + stops_.depth(at.index);
  }
  /// The own shard is computed at once: while the first slices travel, and in
  /// backward while the last gradients do.
  int tile_step(const Stop& at) const {
    if (!at.is_owner()) return spread_step(at);
    return forward_ ? 0 : stops_.hierarchy().steps(Pass::backward) - 1;
  }

  /// Forward: the hop from `phase` to the next one.
  Steps forward_rail(const BlockId& block, int phase) const;
  /// Backward: keys and values from `phase` to the one before.
  Steps kv_rail(const BlockId& block, int phase) const;
  /// Backward: from the owner to the holder of `phase`.
  Steps sent_again(const BlockId& block, int phase) const;
  /// Backward: a gradient from a stop of a node to the next one, or home.
  Steps home(const Stop& from) const;
  /// Backward: the sum of `phase` goes to the phase before. The holder there
  /// adds it to its own sum; with `passes` it has none and passes this one on.
  Steps grad_rail(const BlockId& block, int phase, bool passes) const;

  int kv_slot(const Stop& at) const;
  /// Of a stop's own gradient, and what is added to it.
  int grad_slot(const Stop& at) const;
  /// Staging of gradients: from the rail; at a holder from peer `from` or from
  /// the end of its walk; at a stop along a walk.
  int rail_staging(const BlockId& block) const;
  int home_staging(const BlockId& block, Rank from) const;
  int walk_staging(const BlockId& block) const;

 private:
  int turn(const BlockId& block, int phase) const;
  // When the gradients of a spread are all home.
  int sum_step(const BlockId& block, int phase) const {
    return (turn(block, phase) + 1) * spread_ + 2;
  }
  // Spreads that run side by side: of peers, or on walks.
  int lane(const BlockId& block) const;
  int lanes() const;
  // Slots of a slice's strands.
  int rail_slots() const;
  int sum_slots() const;
  int first_home_slot() const { return (sum_slots() + slices_) * strands_; }

  const Stops& stops_;
  bool forward_;
  Payload payload_;
  int nodes_, ranks_per_node_, slices_;
  int strands_;  // of a slice
  int spread_;   // D
  // Turns that backward gives keys and values to cross the rail, and an owner's
  // sum beyond what other sums have: half a shard's. In simulations ranks wait
  // for rails with a quarter, and a whole shard's turns gain nothing.
  int slack_;
  // A sum may reach a node that only passes it on so many turns before that
  // node's own turn.
  int early_;
};

}  // namespace ringweave::schedule
