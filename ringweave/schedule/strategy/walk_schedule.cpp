#include "ringweave/schedule/strategy/walk_schedule.h"

#include <algorithm>

#include "ringweave/base/error.h"
#include "ringweave/schedule/need_table.h"

namespace ringweave::schedule {
namespace {

// One part's walk: w_0 … w_last, of which w_first … w_last may need it, both 0
// if only the owner does.
struct PartWalk {
  BlockId block;
  int first = 0;
  int last = 0;
};

class WalkGenerator {
 public:
  WalkGenerator(const Walks& walks, const Demand& demand, bool retain,
                ScheduleSink& sink)
      : walks_(walks),
        demand_(demand),
        retain_(retain),
        n_(walks.ranks()),
        table_(demand, walks.strands()),
        sink_(sink) {
    ensure(walks.ranks() == demand.ranks(), "walks of {} ranks, demand of {}",
           walks.ranks(), demand.ranks());
  }

  /// Calls emit(part walk, t, incoming) for every place w_t of a walk that is
  /// wanted; hops into w_t are wanted only if `incoming`, since otherwise the
  /// sender's call emits them.
  template <typename Emit>
  void generate(std::optional<Rank> rank, Emit emit) {
    if (rank) return generate_part(*rank, emit);
    for (int strand = 0; strand < walks_.strands(); ++strand) {
      for (Rank owner = 0; owner < n_; ++owner) {
        for (int part = 0; part < demand_.parts(owner); ++part) {
          const PartWalk walk = find_walk({owner, strand, part});
          for (int t = 0; t < n_; ++t) emit(walk, t, false);
        }
      }
    }
  }

  void forward(const PartWalk& walk, int t, bool incoming) {
    if (t < walk.last) add_forward_hop(walk.block, t);
    if (t > 0 && t <= walk.last && incoming) {
      add_forward_hop(walk.block, t - 1);
    }
    if (t <= walk.last && needs(walk.block, t)) {
      sink_.add(Tile{place(walk.block, t), t, walk.block,
                     t == 0 ? kOwn : kv_slot(walk.block, t), kOwn});
    }
    if (retain_) add_retained(walk, t);
  }

  void backward(const PartWalk& walk, int t, bool incoming) {
    const BlockId& block = walk.block;
    const bool sent_again = walk.last > 0 && walk.last < n_ - 1;
    if (t == 0 && sent_again) add_second_sending(walk);
    if (t == walk.last && sent_again && incoming) add_second_sending(walk);
    if (t > walk.first && t <= walk.last) add_kv_hop(block, t);
    if (t >= walk.first && t < walk.last && incoming) add_kv_hop(block, t + 1);
    if (t > 0 && t <= walk.last) add_grad_hop(block, t);
    if (t < walk.last && incoming) add_grad_hop(block, t + 1);
    if (t <= walk.last && needs(block, t)) {
      sink_.add(Tile{place(block, t), n_ - 1 - t, block,
                     t == 0 ? kOwn : kv_slot(block, t),
                     t == 0 ? kOwn : grad_slot(block, t)});
    }
    add_retained(walk, t);
  }

  void summary(const PartWalk& walk, int t, bool incoming) {
    if (t < walk.last) add_summary_hop(walk.block, t);
    if (t == 0 || t > walk.last) return;
    if (incoming) add_summary_hop(walk.block, t - 1);
    sink_.add(
        Retained{place(walk.block, t), walk.block, summary_slot(walk.block)});
  }

 private:
  // In order of steps, which keeps together in memory what is needed together.
  template <typename Emit>
  void generate_part(Rank rank, Emit emit) {
    for (int t = 0; t < n_; ++t) {
      for (int strand = 0; strand < walks_.strands(); ++strand) {
        const Rank owner = walks_.owner_at(strand, rank, t);
        for (int part = 0; part < demand_.parts(owner); ++part) {
          emit(find_walk({owner, strand, part}), t, true);
        }
      }
    }
  }

  Rank place(const BlockId& block, int t) const {
    return walks_.at(block.strand, block.owner, t);
  }
  bool needs(const BlockId& block, int t) {
    return table_.needs(place(block, t), block);
  }

  // Searches from both ends of the walk, so that a full mask costs O(1). If the
  // search takes long, looks up where the ranks are that need the part.
  PartWalk find_walk(const BlockId& block) {
    int tries = table_.remembers() ? 16 : 2 * n_;
    PartWalk walk{block, 1, n_ - 1};
    while (walk.last > 0 && !needs(block, walk.last)) {
      --walk.last;
      if (--tries == 0) return find_users(block);
    }
    if (walk.last == 0) return {block, 0, 0};
    while (!needs(block, walk.first)) {
      ++walk.first;
      if (--tries == 0) return find_users(block);
    }
    return walk;
  }
  PartWalk find_users(const BlockId& block) {
    PartWalk walk{block, n_, 0};
    for (const Rank user : table_.users(block.owner, block.part)) {
      if (!table_.needs(user, block)) continue;
      const int t = walks_.step_at(block.strand, block.owner, user);
      walk.first = std::min(walk.first, t);
      walk.last = std::max(walk.last, t);
    }
    return walk.last > 0 ? walk : PartWalk{block, 0, 0};
  }

  // Slots of a block while it is at w_t.
  int kv_slot(const BlockId& block, int t) const {
    return 2 * block.strand + t % 2;
  }
  int grad_slot(const BlockId& block, int t) const {
    return 3 * block.strand + 1 + (n_ - 1 - t) % 2;
  }
  int staging_slot(const BlockId& block) const { return 3 * block.strand; }
  int summary_slot(const BlockId& block) const {
    return block.owner * walks_.strands() + block.strand;
  }

  void add_forward_hop(const BlockId& block, int t) {
    sink_.add(Transfer{
        place(block, t), place(block, t + 1), block, Payload::kv, Action::copy,
        t, t + 1, t == 0 ? kOwn : kv_slot(block, t), kv_slot(block, t + 1)});
  }

  void add_summary_hop(const BlockId& block, int t) {
    const int slot = summary_slot(block);
    sink_.add(Transfer{place(block, t), place(block, t + 1), block,
                       Payload::summary, Action::copy, t, t + 1,
                       t == 0 ? kOwn : slot, slot});
  }

  void add_retained(const PartWalk& walk, int t) {
    if (t > 0 && t == n_ - 1 && t == walk.last) {
      sink_.add(
          Retained{place(walk.block, t), walk.block, kv_slot(walk.block, t)});
    }
  }

  // Backward: keys and values from the owner to w_last, when a hop from the
  // next place on the walk would bring them.
  void add_second_sending(const PartWalk& walk) {
    const int step = n_ - 1 - walk.last;
    sink_.add(Transfer{walk.block.owner, place(walk.block, walk.last),
                       walk.block, Payload::kv, Action::copy, step - 1, step,
                       kOwn, kv_slot(walk.block, walk.last)});
  }

  // Backward: keys and values from w_t to w_{t-1}, while w_t computes.
  void add_kv_hop(const BlockId& block, int t) {
    const int step = n_ - 1 - t;
    sink_.add(Transfer{place(block, t), place(block, t - 1), block, Payload::kv,
                       Action::copy, step, step + 1, kv_slot(block, t),
                       kv_slot(block, t - 1)});
  }

  // Backward: the gradient from w_t to w_{t-1}, while w_{t-1} computes.
  void add_grad_hop(const BlockId& block, int t) {
    const int step = n_ - t;
    const bool add = t == 1 || needs(block, t - 1);
    sink_.add(Transfer{place(block, t), place(block, t - 1), block,
                       Payload::kv_grad, add ? Action::add : Action::copy, step,
                       step + 1, grad_slot(block, t),
                       add ? staging_slot(block) : grad_slot(block, t - 1)});
  }

  const Walks& walks_;
  const Demand& demand_;
  bool retain_;
  int n_;
  NeedTable table_;
  ScheduleSink& sink_;
};

}  // namespace

void emit_walks(const Walks& walks, const Demand& demand, Pass pass,
                std::optional<Rank> rank, bool retain, ScheduleSink& sink) {
  WalkGenerator generator(walks, demand, retain, sink);
  generator.generate(rank, [&](const PartWalk& walk, int t, bool incoming) {
    if (pass == Pass::forward) {
      generator.forward(walk, t, incoming);
    } else {
      generator.backward(walk, t, incoming);
    }
  });
}

void emit_walk_summaries(const Walks& walks, const Demand& demand,
                         std::optional<Rank> rank, ScheduleSink& sink) {
  WalkGenerator generator(walks, demand, true, sink);
  generator.generate(rank, [&](const PartWalk& walk, int t, bool incoming) {
    generator.summary(walk, t, incoming);
  });
}

}  // namespace ringweave::schedule
