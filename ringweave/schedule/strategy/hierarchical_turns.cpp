#include "ringweave/schedule/strategy/hierarchical_turns.h"

namespace ringweave::schedule {
namespace {

int divide_up(int a, int b) { return (a + b - 1) / b; }

}  // namespace

Turns::Turns(const Stops& stops, Pass pass, Payload payload)
    : stops_(stops),
      forward_(pass == Pass::forward),
      payload_(payload),
      nodes_(stops.hierarchy().nodes),
      ranks_per_node_(stops.hierarchy().ranks_per_node),
      slices_(stops.hierarchy().slices),
      strands_(stops.hierarchy().inner_strands()),
      spread_(stops.hierarchy().spread_steps()),
      slack_(divide_up(slices_, 2)),
      early_(slices_ / 4) {}

int Turns::turn(const BlockId& block, int phase) const {
  const int slice = stops_.slice(block);
  if (!forward_) return (nodes_ - 1 - phase) * slices_ + slice;
  return phase == 0 ? slice : (phase - 1) * slices_ + slice + 1;
}

Turns::Steps Turns::forward_rail(const BlockId& block, int phase) const {
  const int post = (phase * slices_ + stops_.slice(block)) * spread_;
  return {post, post + spread_};
}

Turns::Steps Turns::kv_rail(const BlockId& block, int phase) const {
  const int post = turn(block, phase) * spread_;
  return {post, post + slack_ * spread_};
}

Turns::Steps Turns::sent_again(const BlockId& block, int phase) const {
  const int wait = turn(block, phase) * spread_;
  return {wait - slack_ * spread_, wait};
}

Turns::Steps Turns::home(const Stop& from) const {
  const int tile = spread_step(from);
  return {tile + 1, tile + 2};
}

Turns::Steps Turns::grad_rail(const BlockId& block, int phase,
                              bool passes) const {
  Steps steps{sum_step(block, phase), sum_step(block, phase - 1)};
  if (passes) {
    steps.post =
        std::max(steps.post, (turn(block, phase - 1) - early_) * spread_);
  }
  if (phase == 1) {
    const int end = stops_.hierarchy().steps(Pass::backward);
    steps.wait = std::min(end, steps.wait + slack_ * spread_);
  }
  return steps;
}

int Turns::lane(const BlockId& block) const {
  return stops_.is_direct() ? block.owner % ranks_per_node_
                            : stops_.piece(block);
}

int Turns::lanes() const {
  return stops_.is_direct() ? ranks_per_node_ : strands_;
}

// Backward receives a slice k turns before its own, and sends it on until
// slack_ turns after it.
int Turns::rail_slots() const { return slices_ + (forward_ ? 1 : slack_); }

// From its turn, or early_ ones before, to the step in which the sum of the
// phase before has its gradients: k + 1 turns and 2 steps later.
int Turns::sum_slots() const {
  return slices_ + 1 + divide_up(2, spread_) + early_;
}

// Rails first, then spreads. What forward retains, of phase u - 1, has the same
// slot in both passes: j · strands + piece for slice j.
int Turns::kv_slot(const Stop& at) const {
  const BlockId& block = at.block;
  if (at.is_owner()) return kOwn;
  if (payload_ == Payload::summary) {
    return block.owner * stops_.hierarchy().strands() + block.strand;
  }
  const int of_turn = turn(block, at.phase);
  if (at.index == 0) {
    // (u - 2) · k + 1 + j, the turn of phase u - 1 forward, is 3 - u + j
    // mod k + 1.
    const int order = forward_ ? of_turn + nodes_ - 3 : of_turn;
    return order % rail_slots() * strands_ + stops_.piece(block);
  }
  const int from_rail = forward_ && at.phase > 0 ? 1 : 0;
  return rail_slots() * strands_ + 4 * lane(block) + 2 * from_rail +
         spread_step(at) % 2;
}

// Sums of holders, staging of rails, staging at holders, staging along walks,
// sums of others.
int Turns::grad_slot(const Stop& at) const {
  if (at.is_owner()) return kOwn;
  if (at.index == 0) {
    return turn(at.block, at.phase) % sum_slots() * strands_ +
           stops_.piece(at.block);
  }
  return first_home_slot() + 2 * lanes() + 2 * lane(at.block) +
         spread_step(at) % 2;
}

// One for each strand of a shard: a sum has been added when the same slice's
// sum is posted for the phase before.
int Turns::rail_staging(const BlockId& block) const {
  return sum_slots() * strands_ + block.strand;
}

int Turns::home_staging(const BlockId& block, Rank from) const {
  return first_home_slot() +
         (stops_.is_direct() ? from % ranks_per_node_ : stops_.piece(block));
}

int Turns::walk_staging(const BlockId& block) const {
  return first_home_slot() + lanes() + stops_.piece(block);
}

}  // namespace ringweave::schedule
