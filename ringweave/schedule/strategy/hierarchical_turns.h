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

  /// When keys and values, or summaries, reach a stop by the spread; its
  /// holder posts in the step in which it is 0 hops away.
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
  /// Backward: the sum of `phase` to the one before, whose holder adds it to
  /// its own, or, with `passes`, has none.
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
  // Turns that backward leaves to keys and values on the rail, and to the
  // owner's sums beyond their own. Half a shard's: simulated, a quarter makes
  // ranks wait for rails, and a whole one gains nothing.
  int slack_;
  // Turns by which a sum may reach a node that only passes it on before that
  // node's own turn.
  int early_;
};

}  // namespace ringweave::schedule
