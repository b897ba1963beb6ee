#include "ringweave/schedule/strategy/tree_schedule.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "ringweave/base/error.h"

namespace ringweave::schedule {
namespace {

constexpr int kNone = -1;

// One part's tree: for every rank the hop that brings the part, and others by
// their index; kNone if there is none.
struct PartTree {
  explicit PartTree(int ranks)
      : hop_to(ranks, kNone), last_step(ranks, kNone), first(ranks, kNone) {}

  std::vector<int> hop_to;
  std::vector<int> last_step;  // of the hops to and from the rank
  std::vector<int> first;  // its last hop to a child: of gradients the first
};

class TreeGenerator {
 public:
  TreeGenerator(const Trees& trees, const Demand& demand,
                std::optional<Rank> rank, ScheduleSink& sink)
      : trees_(trees), demand_(demand), rank_(rank), sink_(sink) {
    ensure(trees.ranks == demand.ranks(), "trees of {} ranks, demand of {}",
           trees.ranks, demand.ranks());
  }

  /// Calls emit(block, hops of its strand, tree) for every part.
  template <typename Emit>
  void generate(Emit emit) const {
    for (Rank owner = 0; owner < trees_.ranks; ++owner) {
      for (int strand = 0; strand < trees_.strands; ++strand) {
        for (int part = 0; part < demand_.parts(owner); ++part) {
          const BlockId block{owner, strand, part};
          if (demand_.size(block, trees_.strands) == 0) continue;
          const int number = owner * trees_.strands + strand;
          emit(block, trees_.hops[number], prune(block));
        }
      }
    }
  }

  void forward(const BlockId& block, const std::vector<Hop>& hops,
               const PartTree& tree, Payload payload, bool retain) {
    const int slot = slot_of(block);
    for (const Hop& hop : hops) {
      if (tree.hop_to[hop.to] == kNone) continue;
      if (takes_part(hop)) {
        sink_.add(Transfer{hop.from, hop.to, block, payload, Action::copy,
                           hop.step, hop.step + 1,
                           hop.from == block.owner ? kOwn : slot, slot});
      }
      if (!wanted(hop.to)) continue;
      const bool summary = payload == Payload::summary;
      if (!summary && !needs(hop.to, block)) continue;
      if (!summary) sink_.add(Tile{hop.to, hop.step + 1, block, slot, kOwn});
      if (retain) sink_.add(Retained{hop.to, block, slot});
    }
    if (payload == Payload::kv) add_own_tile(block);
  }

  void backward(const BlockId& block, const std::vector<Hop>& hops,
                const PartTree& tree) {
    const int slot = slot_of(block);
    for (int i = 0; i < static_cast<int>(hops.size()); ++i) {
      const Hop& hop = hops[i];
      if (tree.hop_to[hop.to] == kNone) continue;
      if (takes_part(hop)) add_gradient(block, hop, tree.first[hop.from] == i);
      if (!wanted(hop.to) || !needs(hop.to, block)) continue;
      sink_.add(Tile{hop.to, trees_.steps - 1 - tree.last_step[hop.to], block,
                     slot, slot});
      sink_.add(Retained{hop.to, block, slot});
    }
    add_own_tile(block);
  }

 private:
  bool wanted(Rank rank) const { return !rank_ || *rank_ == rank; }
  bool takes_part(const Hop& hop) const {
    return wanted(hop.from) || wanted(hop.to);
  }
  bool needs(Rank rank, const BlockId& block) const {
    return demand_.needs(rank, block, trees_.strands);
  }
  int slot_of(const BlockId& block) const {
    return block.owner * trees_.strands + block.strand;
  }

  void add_own_tile(const BlockId& block) {
    if (wanted(block.owner) && needs(block.owner, block)) {
      sink_.add(Tile{block.owner, 0, block, kOwn, kOwn});
    }
  }

  // From the last hop to the first: those that lead to nobody who needs the
  // part are left out.
  PartTree prune(const BlockId& block) const {
    const std::vector<Hop>& hops = trees_.hops[slot_of(block)];
    PartTree tree(trees_.ranks);
    for (int i = static_cast<int>(hops.size()) - 1; i >= 0; --i) {
      const Hop& hop = hops[i];
      if (tree.first[hop.to] == kNone && !needs(hop.to, block)) continue;
      tree.hop_to[hop.to] = i;
      for (const Rank rank : {hop.from, hop.to}) {
        tree.last_step[rank] = std::max(tree.last_step[rank], hop.step);
      }
      if (tree.first[hop.from] == kNone) tree.first[hop.from] = i;
    }
    return tree;
  }

  // `first`: of the gradients that arrive at the parent.
  void add_gradient(const BlockId& block, const Hop& hop, bool first) {
    const int step = trees_.steps - hop.step;
    const bool copy =
        first && hop.from != block.owner && !needs(hop.from, block);
    sink_.add(Transfer{hop.to, hop.from, block, Payload::kv_grad,
                       copy ? Action::copy : Action::add, step, step + 1,
                       slot_of(block),
                       copy ? slot_of(block) : staging_slot(block, hop)});
  }

  // Numbers the gradients that arrive at a rank in the same step, over all
  // blocks.
  int staging_slot(const BlockId& block, const Hop& hop) {
    if (places_.empty()) {
      std::map<std::pair<Rank, int>, int> count;
      for (const std::vector<Hop>& hops : trees_.hops) {
        places_.emplace_back();
        for (const Hop& each : hops) {
          places_.back()[each.to] = count[{each.from, each.step}]++;
        }
      }
    }
    return trees_.ranks * trees_.strands + places_[slot_of(block)].at(hop.to);
  }

  const Trees& trees_;
  const Demand& demand_;
  std::optional<Rank> rank_;
  ScheduleSink& sink_;
  std::vector<std::map<Rank, int>> places_;  // [block] of the hop to a rank
};

}  // namespace

void emit_trees(const Trees& trees, const Demand& demand, Pass pass,
                std::optional<Rank> rank, bool retain, ScheduleSink& sink) {
  TreeGenerator generator(trees, demand, rank, sink);
  generator.generate([&](const BlockId& block, const std::vector<Hop>& hops,
                         const PartTree& tree) {
    if (pass == Pass::forward) {
      generator.forward(block, hops, tree, Payload::kv, retain);
    } else {
      generator.backward(block, hops, tree);
    }
  });
}

void emit_tree_summaries(const Trees& trees, const Demand& demand,
                         std::optional<Rank> rank, ScheduleSink& sink) {
  TreeGenerator generator(trees, demand, rank, sink);
  generator.generate([&](const BlockId& block, const std::vector<Hop>& hops,
                         const PartTree& tree) {
    generator.forward(block, hops, tree, Payload::summary, true);
  });
}

}  // namespace ringweave::schedule
