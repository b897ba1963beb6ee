#include "ringweave/plan/hierarchical_schedule.h"

#include <algorithm>

#include "ringweave/base/error.h"

namespace ringweave::plan {

int Hierarchy::spread_steps() const {
  return inner ? std::max(1, ranks_per_node - 1) : 1;
}

int Hierarchy::steps(Pass pass) const {
  const int turns = pass == Pass::forward
                        ? std::max(slices, (nodes - 1) * slices + 1)
                        : nodes * slices;
  return turns * spread_steps() + (pass == Pass::forward ? 1 : 2);
}

namespace {

int divide_up(int a, int b) { return (a + b - 1) / b; }

// A place on a block's way: in its node of phase `phase`, place 0 is the
// holder; along an inner walk place i is i hops from it, else a peer.
struct Place {
  BlockId block;
  int phase = 0;
  int index = 0;
};

class Generator {
 public:
  Generator(const Hierarchy& hierarchy, const Demand& demand, Pass pass,
            Payload payload, ScheduleSink& sink)
      : inner_(hierarchy.inner.get()),
        demand_(demand),
        forward_(pass == Pass::forward),
        payload_(payload),
        sink_(sink),
        u_(hierarchy.nodes),
        m_(hierarchy.ranks_per_node),
        slices_(hierarchy.slices),
        inner_strands_(hierarchy.inner_strands()),
        strands_(hierarchy.strands()),
        spread_(hierarchy.spread_steps()) {
    ensure(demand.ranks() == u_ * m_ && (!inner_ || inner_->ranks() == m_),
           "a hierarchy of {} ranks, demand of {}", u_ * m_, demand.ranks());
  }

  /// Calls emit(place, incoming) for every place of every part that is wanted:
  /// those of `rank`, or all. Transfers into a place are wanted only if
  /// `incoming`, since otherwise the sender's call emits them.
  template <typename Emit>
  void generate(std::optional<Rank> rank, Emit emit) const {
    for (int strand = 0; strand < strands_; ++strand) {
      for (int phase = 0; phase < u_; ++phase) {
        for (int index = 0; index < m_; ++index) {
          const auto emit_owner = [&](Rank owner) {
            for (int part = 0; part < demand_.parts(owner); ++part) {
              emit({{owner, strand, part}, phase, index}, rank.has_value());
            }
          };
          if (rank) {
            emit_owner(owner_at(strand, *rank, phase, index));
          } else {
            for (Rank owner = 0; owner < u_ * m_; ++owner) emit_owner(owner);
          }
        }
      }
    }
  }

  void forward(const Place& at, bool incoming, bool retain) {
    add_spread(at, incoming);
    if (at.index == 0) {
      const int last = last_phase(at.block);
      if (at.phase < last) add_forward_rail(at.block, at.phase);
      if (incoming && at.phase > 0 && at.phase <= last) {
        add_forward_rail(at.block, at.phase - 1);
      }
      if (retain) add_retained(at, last);
    }
    if (payload_ == Payload::kv) add_tile(at);
  }

  void backward(const Place& at, bool incoming) {
    add_spread(at, incoming);
    add_gradients_home(at, incoming);
    if (at.index == 0) add_rails(at, incoming);
    add_tile(at);
  }

  void summary(const Place& at, bool incoming) {
    forward(at, incoming, false);
    if (is_owner(at)) return;
    const bool arrives =
        at.index == 0 ? at.phase <= last_phase(at.block) : is_on_the_way(at);
    if (arrives) {
      sink_.add(Retained{rank_at(at), at.block, kv_slot(at)});
    }
  }

 private:
  // Where, and who.

  int slice(const BlockId& block) const {
    return block.strand / inner_strands_;
  }
  int piece(const BlockId& block) const {
    return block.strand % inner_strands_;
  }
  bool is_owner(const Place& at) const {
    return at.phase == 0 && at.index == 0;
  }
  int depth(int index) const { return inner_ ? index : std::min(index, 1); }
  int parent(int index) const { return inner_ ? index - 1 : 0; }

  Rank rank_at(const Place& at) const {
    const int node = (at.block.owner / m_ + at.phase) % u_;
    const int holder = at.block.owner % m_;
    return node * m_ + (inner_ ? inner_->at(piece(at.block), holder, at.index)
                               : (holder + at.index) % m_);
  }
  Rank owner_at(int strand, Rank rank, int phase, int index) const {
    const int node = (rank / m_ - phase + u_) % u_;
    const int local = rank % m_;
    return node * m_ +
           (inner_ ? inner_->owner_at(strand % inner_strands_, local, index)
                   : (local - index + m_) % m_);
  }

  bool needs(const Place& at) const {
    return demand_.needs(rank_at(at), at.block, strands_);
  }
  // The last place of a node that needs the part; 0 if none but the holder.
  int last_index(const BlockId& block, int phase) const {
    int index = m_ - 1;
    while (index > 0 && !needs({block, phase, index})) --index;
    return index;
  }
  int first_index(const BlockId& block, int phase) const {
    int index = 1;
    while (index < m_ && !needs({block, phase, index})) ++index;
    return index;
  }
  bool node_needs(const BlockId& block, int phase) const {
    return last_index(block, phase) > 0 || needs({block, phase, 0});
  }
  // Of the phases from 1 whose nodes need the part; last 0: none.
  int last_phase(const BlockId& block) const {
    int phase = u_ - 1;
    while (phase > 0 && !node_needs(block, phase)) --phase;
    return phase;
  }
  int first_phase(const BlockId& block) const {
    int phase = 1;
    while (phase < u_ && !node_needs(block, phase)) ++phase;
    return phase;
  }
  // Whether the spread brings the part to a place other than the holder's.
  bool is_on_the_way(const Place& at) const {
    if (at.index == 0) return false;
    return inner_ ? at.index <= last_index(at.block, at.phase) : needs(at);
  }

  // When, and in which slot.

  int turn(const BlockId& block, int phase) const {
    if (!forward_) return (u_ - 1 - phase) * slices_ + slice(block);
    return phase == 0 ? slice(block) : (phase - 1) * slices_ + slice(block) + 1;
  }
  int spread_step(const BlockId& block, int phase) const {
    return turn(block, phase) * spread_;
  }

  int kv_slot(const Place& at) const {
    const BlockId& block = at.block;
    if (is_owner(at)) return kOwn;
    if (payload_ == Payload::summary) {
      return block.owner * strands_ + block.strand;
    }
    const int of_turn = turn(block, at.phase);
    // What forward retains has the same slot in both passes.
    if (at.index == 0) {
      const int arrival = forward_ ? of_turn - 1 : (u_ - 2) * slices_ + of_turn;
      return arrival % (slices_ + 1) * inner_strands_ + piece(block);
    }
    const int parity = (of_turn * spread_ + depth(at.index)) % 2;
    const int from_rail = forward_ && at.phase > 0 ? 1 : 0;
    return (slices_ + 1) * inner_strands_ + 4 * lane(block) + 2 * from_rail +
           parity;
  }
  // Spreads that run side by side: of peers, or on walks.
  int lane(const BlockId& block) const {
    return inner_ ? piece(block) : block.owner % m_;
  }
  int lanes() const { return inner_ ? inner_strands_ : m_; }

  // Slots of gradients, in this order: sums of holders, staging of rails (the
  // first at owners), staging at holders, staging along walks, sums of others.
  int sums() const { return std::max(slices_ + 1, 2 + divide_up(2, spread_)); }
  int early_sums() const { return std::max(1, slices_ - 1); }

  int grad_slot(const Place& at) const {
    if (is_owner(at)) return kOwn;
    if (at.index == 0) {
      return turn(at.block, at.phase) % sums() * inner_strands_ +
             piece(at.block);
    }
    const int step = spread_step(at.block, at.phase) + depth(at.index);
    return home_staging() + 2 * lanes() + 2 * lane(at.block) + step % 2;
  }
  int rail_staging(const BlockId& block, int to_phase) const {
    const int place =
        to_phase == 0 ? 0 : 1 + turn(block, to_phase + 1) % early_sums();
    return (sums() + place) * inner_strands_ + piece(block);
  }
  int home_staging() const {
    return (sums() + 1 + early_sums()) * inner_strands_;
  }

  void add_tile(const Place& at) {
    if (!needs(at)) return;
    const int step =
        is_owner(at) ? 0 : spread_step(at.block, at.phase) + depth(at.index);
    sink_.add(Tile{rank_at(at), step, at.block, kv_slot(at),
                   forward_ ? kOwn : grad_slot(at)});
  }

  // Keys and values, or summaries.

  void add_kv(const Place& from, const Place& to, int post, int wait) {
    sink_.add(Transfer{rank_at(from), rank_at(to), from.block, payload_,
                       Action::copy, post, wait, kv_slot(from), kv_slot(to)});
  }

  // Into a place on the way from the place before it.
  void add_spread_hop(const Place& to) {
    const int wait = spread_step(to.block, to.phase) + depth(to.index);
    add_kv({to.block, to.phase, parent(to.index)}, to, wait - 1, wait);
  }

  void add_spread(const Place& at, bool incoming) {
    if (incoming && is_on_the_way(at)) add_spread_hop(at);
    for_each_child(at, [&](const Place& child) { add_spread_hop(child); });
  }

  // The places that `at` spreads to.
  template <typename Visit>
  void for_each_child(const Place& at, Visit visit) const {
    if (!inner_ && at.index > 0) return;
    const int end = inner_ ? std::min(at.index + 2, m_) : m_;
    for (int index = at.index + 1; index < end; ++index) {
      const Place child{at.block, at.phase, index};
      if (is_on_the_way(child)) visit(child);
    }
  }

  void add_forward_rail(const BlockId& block, int phase) {
    const int step = (phase * slices_ + slice(block)) * spread_;
    add_kv({block, phase, 0}, {block, phase + 1, 0}, step, step + spread_);
  }

  void add_retained(const Place& at, int last) {
    if (at.phase > 0 && at.phase == u_ - 1 && at.phase == last) {
      sink_.add(Retained{rank_at(at), at.block, kv_slot(at)});
    }
  }

  // Backward, rails of a holder.

  void add_rails(const Place& at, bool incoming) {
    const BlockId& block = at.block;
    const int last = last_phase(block);
    const int first = first_phase(block);
    const bool sent_again = last > 0 && last < u_ - 1;
    if (sent_again && (at.phase == 0 || (incoming && at.phase == last))) {
      const int step = spread_step(block, last);
      add_kv({block, 0, 0}, {block, last, 0}, step - spread_, step);
    }
    if (at.phase > first && at.phase <= last) add_kv_rail(block, at.phase);
    if (incoming && at.phase >= first && at.phase < last) {
      add_kv_rail(block, at.phase + 1);
    }
    if (at.phase > 0 && at.phase <= last) add_grad_rail(block, at.phase);
    if (incoming && at.phase < last) add_grad_rail(block, at.phase + 1);
    add_retained(at, last);
  }

  void add_kv_rail(const BlockId& block, int phase) {
    const int step = spread_step(block, phase);
    add_kv({block, phase, 0}, {block, phase - 1, 0}, step, step + spread_);
  }

  // A sum leaves once the spread's gradients are home. It can be added, or take
  // its place, from the step after its receiver's tile on.
  int sum_step(const BlockId& block, int phase) const {
    return spread_step(block, phase) + spread_ + 2;
  }
  int rail_wait(const BlockId& block, int phase) const {
    const int there = sum_step(block, phase) + spread_;
    return phase == 1 ? there
                      : std::max(there, spread_step(block, phase - 1) + 1);
  }

  void add_grad_rail(const BlockId& block, int phase) {
    const Place from{block, phase, 0};
    const Place to{block, phase - 1, 0};
    const bool has_tile = is_owner(to) || needs(to);
    int post = sum_step(block, phase);
    if (!has_tile) post = std::max(post, spread_step(block, to.phase));
    const bool copy = rail_is_first(to);
    sink_.add(Transfer{rank_at(from), rank_at(to), block, Payload::kv_grad,
                       copy ? Action::copy : Action::add, post,
                       rail_wait(block, phase), grad_slot(from),
                       copy ? grad_slot(to) : rail_staging(block, to.phase)});
  }

  // A holder without a tile has no sum of its own to add to: the gradient that
  // arrives first starts it. These two say which, for holders but the owner.

  bool rail_is_first(const Place& holder) const {
    if (is_owner(holder) || needs(holder)) return false;
    const int last = last_index(holder.block, holder.phase);
    return last == 0 || rail_wait(holder.block, holder.phase + 1) <
                            home_wait({holder.block, holder.phase, last});
  }
  bool is_first(const Place& from) const {
    const Place holder{from.block, from.phase, 0};
    if (is_owner(holder) || needs(holder)) return false;
    if (!inner_ && from.index != first_index(from.block, from.phase)) {
      return false;
    }
    return from.phase >= last_phase(from.block) || !rail_is_first(holder);
  }

  // Backward, gradients inside a node.

  int home_wait(const Place& from) const {
    return spread_step(from.block, from.phase) + depth(from.index) + 2;
  }

  void add_gradients_home(const Place& at, bool incoming) {
    const int last = inner_ ? last_index(at.block, at.phase) : 0;
    if (at.index > 0 && sends_gradient(at)) add_gradient(at, last);
    if (incoming) add_incoming_gradients(at, last);
  }

  bool sends_gradient(const Place& at) const {
    if (!inner_) return needs(at);
    return at.index <= last_index(at.block, at.phase) &&
           at.index >= first_index(at.block, at.phase);
  }

  // From a place to the next one on its walk, or home.
  void add_gradient(const Place& from, int last) {
    const bool home = !inner_ || from.index == last;
    const Place to{from.block, from.phase, home ? 0 : from.index + 1};
    const int wait = home_wait(from);
    const bool copy = home ? is_first(from) : !needs(to);
    const int staging = home_staging() + (home ? (inner_ ? piece(from.block)
                                                         : rank_at(from) % m_)
                                               : lanes() + piece(from.block));
    sink_.add(Transfer{rank_at(from), rank_at(to), from.block, Payload::kv_grad,
                       copy ? Action::copy : Action::add, wait - 1, wait,
                       grad_slot(from), copy ? grad_slot(to) : staging});
  }

  void add_incoming_gradients(const Place& at, int last) {
    if (!inner_) {
      for_each_child(at, [&](const Place& peer) { add_gradient(peer, last); });
      return;
    }
    const Place before{at.block, at.phase, at.index == 0 ? last : at.index - 1};
    if (before.index > 0 && at.index <= last && sends_gradient(before)) {
      add_gradient(before, last);
    }
  }

  const Walks* inner_;
  const Demand& demand_;
  bool forward_;
  Payload payload_;
  ScheduleSink& sink_;
  int u_, m_, slices_, inner_strands_, strands_, spread_;
};

}  // namespace

void emit_hierarchical(const Hierarchy& hierarchy, const Demand& demand,
                       Pass pass, std::optional<Rank> rank, bool retain,
                       ScheduleSink& sink) {
  Generator generator(hierarchy, demand, pass, Payload::kv, sink);
  generator.generate(rank, [&](const Place& at, bool incoming) {
    if (pass == Pass::forward) {
      generator.forward(at, incoming, retain);
    } else {
      generator.backward(at, incoming);
    }
  });
}

void emit_hierarchical_summaries(const Hierarchy& hierarchy,
                                 const Demand& demand, std::optional<Rank> rank,
                                 ScheduleSink& sink) {
  Generator generator(hierarchy, demand, Pass::forward, Payload::summary, sink);
  generator.generate(rank, [&](const Place& at, bool incoming) {
    generator.summary(at, incoming);
  });
}

}  // namespace ringweave::plan
