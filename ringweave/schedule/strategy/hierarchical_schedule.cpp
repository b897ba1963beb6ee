#include "ringweave/schedule/strategy/hierarchical_schedule.h"

#include <algorithm>

#include "ringweave/schedule/strategy/hierarchical_stops.h"
#include "ringweave/schedule/strategy/hierarchical_turns.h"

namespace ringweave::schedule {

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

class HierarchicalGenerator {
 public:
  HierarchicalGenerator(const Hierarchy& hierarchy, const Demand& demand,
                        Pass pass, Payload payload, ScheduleSink& sink)
      : stops_(hierarchy, demand),
        turns_(stops_, pass, payload),
        payload_(payload),
        sink_(sink) {}
  HierarchicalGenerator(const HierarchicalGenerator&) = delete;
  HierarchicalGenerator& operator=(const HierarchicalGenerator&) = delete;

  /// Calls emit(stop, incoming) for every stop of every part that is wanted:
  /// those of `rank`, or all. Transfers into a stop are wanted only if
  /// `incoming`, since otherwise the sender's call emits them.
  template <typename Emit>
  void generate(std::optional<Rank> rank, Emit emit) const {
    const Hierarchy& hierarchy = stops_.hierarchy();
    for (int strand = 0; strand < hierarchy.strands(); ++strand) {
      for (int phase = 0; phase < hierarchy.nodes; ++phase) {
        for (int index = 0; index < hierarchy.ranks_per_node; ++index) {
          const auto emit_owner = [&](Rank owner) {
            for (int part = 0; part < stops_.demand().parts(owner); ++part) {
              emit({{owner, strand, part}, phase, index}, rank.has_value());
            }
          };
          if (rank) {
            emit_owner(stops_.owner_at(strand, *rank, phase, index));
          } else {
            for (Rank owner = 0; owner < hierarchy.ranks(); ++owner) {
              emit_owner(owner);
            }
          }
        }
      }
    }
  }

  void forward(const Stop& at, bool incoming, bool retain) {
    add_spread(at, incoming);
    if (at.index == 0) {
      const int last = stops_.last_phase(at.block);
      if (at.phase < last) add_forward_rail(at.block, at.phase);
      if (incoming && at.phase > 0 && at.phase <= last) {
        add_forward_rail(at.block, at.phase - 1);
      }
      if (retain) add_retained(at, last);
    }
    if (payload_ == Payload::kv) add_tile(at, kOwn);
  }

  void backward(const Stop& at, bool incoming) {
    add_spread(at, incoming);
    add_gradients_home(at, incoming);
    if (at.index == 0) add_rails(at, incoming);
    add_tile(at, turns_.grad_slot(at));
  }

  void summary(const Stop& at, bool incoming) {
    forward(at, incoming, false);
    if (at.is_owner()) return;
    const bool arrives = at.index == 0 ? at.phase <= stops_.last_phase(at.block)
                                       : stops_.is_on_the_way(at);
    if (arrives) {
      sink_.add(Retained{stops_.rank_at(at), at.block, turns_.kv_slot(at)});
    }
  }

 private:
  void add_tile(const Stop& at, int grad_slot) {
    if (!stops_.needs(at)) return;
    sink_.add(Tile{stops_.rank_at(at), turns_.tile_step(at), at.block,
                   turns_.kv_slot(at), grad_slot});
  }

  // Keys and values, or summaries.

  void add_kv(const Stop& from, const Stop& to, Turns::Steps steps) {
    sink_.add(Transfer{stops_.rank_at(from), stops_.rank_at(to), from.block,
                       payload_, Action::copy, steps.post, steps.wait,
                       turns_.kv_slot(from), turns_.kv_slot(to)});
  }

  // Into a stop on the way from the stop before it.
  void add_spread_hop(const Stop& to) {
    const int wait = turns_.spread_step(to);
    add_kv({to.block, to.phase, stops_.parent(to.index)}, to, {wait - 1, wait});
  }

  void add_spread(const Stop& at, bool incoming) {
    if (incoming && stops_.is_on_the_way(at)) add_spread_hop(at);
    stops_.for_each_child(at,
                          [&](const Stop& child) { add_spread_hop(child); });
  }

  void add_forward_rail(const BlockId& block, int phase) {
    add_kv({block, phase, 0}, {block, phase + 1, 0},
           turns_.forward_rail(block, phase));
  }

  void add_retained(const Stop& at, int last) {
    const int end = stops_.hierarchy().nodes - 1;
    if (at.phase > 0 && at.phase == end && at.phase == last) {
      sink_.add(Retained{stops_.rank_at(at), at.block, turns_.kv_slot(at)});
    }
  }

  // Backward, rails of a holder.

  void add_rails(const Stop& at, bool incoming) {
    const BlockId& block = at.block;
    const int last = stops_.last_phase(block);
    const int first = stops_.first_phase(block);
    const bool sent_again = last > 0 && last < stops_.hierarchy().nodes - 1;
    if (sent_again && (at.phase == 0 || (incoming && at.phase == last))) {
      add_kv({block, 0, 0}, {block, last, 0}, turns_.sent_again(block, last));
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
    add_kv({block, phase, 0}, {block, phase - 1, 0},
           turns_.kv_rail(block, phase));
  }

  // A node that does not need the part only passes the sum on.
  void add_grad_rail(const BlockId& block, int phase) {
    const Stop from{block, phase, 0};
    const Stop to{block, phase - 1, 0};
    const bool passes = to.phase > 0 && !stops_.node_needs(block, to.phase);
    add_gradient(from, to, passes, turns_.grad_rail(block, phase, passes),
                 turns_.rail_staging(block));
  }

  // As a copy it takes the place of the receiver's own gradient, of which there
  // is none; else it is added to it.
  void add_gradient(const Stop& from, const Stop& to, bool copy,
                    Turns::Steps steps, int staging) {
    sink_.add(Transfer{stops_.rank_at(from), stops_.rank_at(to), from.block,
                       Payload::kv_grad, copy ? Action::copy : Action::add,
                       steps.post, steps.wait, turns_.grad_slot(from),
                       copy ? turns_.grad_slot(to) : staging});
  }

  // Backward, gradients inside a node.

  void add_gradients_home(const Stop& at, bool incoming) {
    const int last =
        stops_.is_direct() ? 0 : stops_.last_index(at.block, at.phase);
    if (at.index > 0 && sends_gradient(at)) add_gradient_hop(at, last);
    if (incoming) add_incoming_gradients(at, last);
  }

  bool sends_gradient(const Stop& at) const {
    if (stops_.is_direct()) return stops_.needs(at);
    return at.index <= stops_.last_index(at.block, at.phase) &&
           at.index >= stops_.first_index(at.block, at.phase);
  }

  // From a stop to the next one on its walk, or home.
  void add_gradient_hop(const Stop& from, int last) {
    const BlockId& block = from.block;
    if (stops_.is_direct() || from.index == last) {
      add_gradient(from, {block, from.phase, 0}, starts_sum(from),
                   turns_.home(from),
                   turns_.home_staging(block, stops_.rank_at(from)));
    } else {
      const Stop to{block, from.phase, from.index + 1};
      add_gradient(from, to, !stops_.needs(to), turns_.home(from),
                   turns_.walk_staging(block));
    }
  }

  // A holder without a tile, but the owner, has no sum of its own to add to:
  // the first gradient that comes home starts it.
  bool starts_sum(const Stop& from) const {
    const Stop holder{from.block, from.phase, 0};
    if (holder.is_owner() || stops_.needs(holder)) return false;
    return !stops_.is_direct() ||
           from.index == stops_.first_index(from.block, from.phase);
  }

  void add_incoming_gradients(const Stop& at, int last) {
    if (stops_.is_direct()) {
      stops_.for_each_child(
          at, [&](const Stop& peer) { add_gradient_hop(peer, last); });
      return;
    }
    const Stop before{at.block, at.phase, at.index == 0 ? last : at.index - 1};
    if (before.index > 0 && at.index <= last && sends_gradient(before)) {
      add_gradient_hop(before, last);
    }
  }

  Stops stops_;
  Turns turns_;
  Payload payload_;
  ScheduleSink& sink_;
};

}  // namespace

void emit_hierarchical(const Hierarchy& hierarchy, const Demand& demand,
                       Pass pass, std::optional<Rank> rank, bool retain,
                       ScheduleSink& sink) {
  HierarchicalGenerator generator(hierarchy, demand, pass, Payload::kv, sink);
  generator.generate(rank, [&](const Stop& at, bool incoming) {
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
  HierarchicalGenerator generator(hierarchy, demand, Pass::forward,
                                  Payload::summary, sink);
  generator.generate(rank, [&](const Stop& at, bool incoming) {
    generator.summary(at, incoming);
  });
}

}  // namespace ringweave::schedule
