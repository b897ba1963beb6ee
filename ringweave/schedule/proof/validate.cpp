#include "ringweave/schedule/proof/validate.h"

#include <optional>
#include <vector>

#include "ringweave/base/error.h"
#include "ringweave/schedule/proof/schedule_player.h"

namespace ringweave::schedule {
namespace {

[[noreturn]] void fail(const char* kind, const std::string& what,
                       const std::string& why) {
  throw InvalidArgument(fmt::format("[validate] {} {}: {}", kind, what, why));
}

[[noreturn]] void fail(const char* kind, Subject what, const std::string& why) {
  fail(kind, describe(what), why);
}

// What has happened to a block part on a rank.
struct Use {
  int tile = -1;          // index of the tile that computes it
  bool held = false;      // retained from forward, or its receive was posted
  bool useful = false;    // computed from or passed on
  bool computed = false;  // backward: its gradient is in the tile's grad_slot
  std::optional<int> copy_slot;  // backward: where a copy of the gradient goes
};

class AttentionPlayer {
 public:
  AttentionPlayer(const Schedule& schedule, const Demand& demand, int strands)
      : schedule_(schedule),
        demand_(demand),
        strands_(strands),
        backward_(schedule.pass == Pass::backward),
        index_(demand, strands),
        slots_(demand.ranks()) {
    check_form(schedule, demand, strands, index_);
    uses_.resize(static_cast<std::size_t>(schedule.ranks) * index_.count());
    if (backward_) {
      own_gradients_.resize(index_.count(), RankSet(schedule.ranks));
    }
  }

  void play() {
    for (const Transfer& transfer : schedule_.transfers) {
      check_kind(transfer);
    }
    assign_tiles();
    if (backward_) find_retained();
    for (const auto& [step, events] : events_by_step(schedule_)) {
      for (const int i : events.waits) land(schedule_.transfers[i]);
      for (const int i : events.waits) sum_up(schedule_.transfers[i]);
      for (const int i : events.waits) release(schedule_.transfers[i]);
      for (const int i : events.posts) send(schedule_.transfers[i]);
      for (const int i : events.posts) receive(schedule_.transfers[i]);
      for (const int i : events.tiles) compute(schedule_.tiles[i]);
    }
    if (!backward_) check_retained();
    check_complete();
  }

 private:
  Use& use(Rank rank, const BlockId& block) {
    return uses_[static_cast<std::size_t>(rank) * index_.count() +
                 index_[block]];
  }

  void check_kind(const Transfer& transfer) const {
    const bool kv =
        transfer.payload == Payload::kv && transfer.action == Action::copy;
    const bool gradient = backward_ && transfer.payload == Payload::kv_grad &&
                          transfer.action != Action::compose;
    if (!kv && !gradient) {
      fail("impossible", &transfer,
           fmt::format("payload {} with action {} has no place in a {} pass",
                       name(transfer.payload), name(transfer.action),
                       name(schedule_.pass)));
    }
  }

  void assign_tiles() {
    for (std::size_t i = 0; i < schedule_.tiles.size(); ++i) {
      const Tile& tile = schedule_.tiles[i];
      Use& its = use(tile.rank, tile.block);
      if (its.tile >= 0) fail("doubled", &tile, "computed before");
      if (!demand_.needs(tile.rank, tile.block, strands_)) {
        fail("impossible", &tile, "the rank does not need the block");
      }
      const bool own = tile.rank == tile.block.owner;
      if (own != (tile.slot == kOwn) ||
          (backward_ && own != (tile.grad_slot == kOwn))) {
        fail("impossible", &tile,
             "the own block, and no other, is in the own slot");
      }
      its.tile = static_cast<int>(i);
    }
  }

  void find_retained() {
    for (const Retained& kept : schedule_.retained) {
      const Subject what = &kept;
      Use& its = use(kept.rank, kept.block);
      if (its.held || kept.rank == kept.block.owner) {
        fail("doubled", what, fmt::format("rank {} has it", kept.rank));
      }
      its.held = true;
      slots_.writable(kept.rank, Payload::kv, kept.slot, kept.block, what)
          .present = true;
    }
  }

  void send(const Transfer& t) {
    const bool gradient = t.payload == Payload::kv_grad;
    if (t.source_slot == kOwn) {
      if (t.from == t.block.owner && !gradient) return;
      fail("impossible", &t,
           "only keys and values of the sender's own block are in its own "
           "slot");
    }
    PartState& source =
        slots_.readable(t.from, t.payload, t.source_slot, t.block, &t);
    if (gradient && source.readers > 0) {
      fail("doubled", &t, "the gradient is on its way already");
    }
    ++source.readers;
    if (!gradient) use(t.from, t.block).useful = true;
  }

  void receive(const Transfer& t) {
    if (t.payload == Payload::kv) {
      Use& its = use(t.to, t.block);
      if (its.held || t.to == t.block.owner) {
        fail("doubled", &t, "the receiver has the block");
      }
      its.held = true;
    } else if (t.action == Action::copy) {
      std::optional<int>& copy_slot = use(t.to, t.block).copy_slot;
      if (t.to == t.block.owner) {
        fail("impossible", &t, "an owner adds gradients");
      }
      if (copy_slot) {
        fail("doubled", &t, "the receiver has a copy of the gradient");
      }
      copy_slot = t.slot;
    }
    PartState& target = slots_.writable(t.to, t.payload, t.slot, t.block, &t);
    target.arriving = true;
    target.present = false;
    if (t.payload == Payload::kv_grad) {
      target.contributors =
          slots_.find(t.from, t.payload, t.source_slot, t.block)->contributors;
    }
  }

  // Where an arriving gradient is added, at a rank that is not the owner.
  PartState& addend(const Transfer& t) {
    const Use& its = use(t.to, t.block);
    const Tile* tile = its.tile >= 0 ? &schedule_.tiles[its.tile] : nullptr;
    const std::optional<int> slot = sum_slot(false, tile, its.copy_slot);
    if (tile ? !its.computed : !slot) {
      fail("impossible", &t,
           "the receiver has no gradient of its own to add to by then");
    }
    return slots_.readable(t.to, Payload::kv_grad, *slot, t.block, &t);
  }

  void land(const Transfer& t) {
    PartState& arrived = *slots_.find(t.to, t.payload, t.slot, t.block);
    arrived.arriving = false;
    arrived.present = t.action == Action::copy;
  }

  // Before any send of the step has ended: a gradient that is being sent must
  // not be added to.
  void sum_up(const Transfer& t) {
    if (t.action != Action::add) return;
    RankSet* sum = &own_gradients_[index_[t.block]];
    if (t.to != t.block.owner) {
      PartState& state = addend(t);
      if (state.readers > 0) {
        fail("impossible", &t, "the sum is on its way already");
      }
      sum = &state.contributors;
    }
    const RankSet& arrived =
        slots_.find(t.to, t.payload, t.slot, t.block)->contributors;
    if (sum->intersects(arrived)) {
      fail("doubled", &t, "a rank's gradient would be added twice");
    }
    sum->unite(arrived);
  }

  void release(const Transfer& t) {
    if (t.source_slot == kOwn) return;
    PartState& source = *slots_.find(t.from, t.payload, t.source_slot, t.block);
    --source.readers;
    // A gradient moves, so it can't be sent on twice.
    if (t.payload == Payload::kv_grad) source.present = false;
  }

  void compute(const Tile& tile) {
    const Subject what = &tile;
    Use& its = use(tile.rank, tile.block);
    its.useful = its.computed = true;
    if (tile.slot != kOwn) {
      slots_.readable(tile.rank, Payload::kv, tile.slot, tile.block, what);
    }
    if (!backward_) return;
    if (tile.grad_slot == kOwn) {
      own_gradients_[index_[tile.block]].insert(tile.rank);
      return;
    }
    PartState& gradient = slots_.writable(tile.rank, Payload::kv_grad,
                                          tile.grad_slot, tile.block, what);
    gradient.present = true;
    gradient.contributors = RankSet(schedule_.ranks);
    gradient.contributors.insert(tile.rank);
  }

  void check_retained() {
    for (const Retained& kept : schedule_.retained) {
      const Subject what = &kept;
      slots_.readable(kept.rank, Payload::kv, kept.slot, kept.block, what);
      Use& its = use(kept.rank, kept.block);
      if (!its.held) fail("doubled", what, "it is listed twice");
      its.held = false;
    }
  }

  void check_complete() {
    for (const Transfer& t : schedule_.transfers) {
      if (t.payload == Payload::kv && !use(t.to, t.block).useful) {
        fail("impossible", &t,
             "the receiver neither uses the block nor passes it on");
      }
    }
    for (int i = 0; i < index_.count(); ++i) {
      const BlockId block = index_.id(i);
      for (Rank rank = 0; rank < schedule_.ranks; ++rank) {
        if (!demand_.needs(rank, block, strands_)) continue;
        if (use(rank, block).tile < 0) {
          fail("missing", "tile", fmt::format("rank {} needs {}", rank, block));
        }
        if (backward_ && !own_gradients_[i].contains(rank)) {
          fail("missing", "transfer",
               fmt::format("rank {}'s gradient of {} never reaches its owner",
                           rank, block));
        }
      }
    }
    if (!backward_) return;
    for (const Retained& kept : schedule_.retained) {
      if (!use(kept.rank, kept.block).useful) {
        fail(
            "impossible", &kept,
            fmt::format("rank {} neither uses it nor passes it on", kept.rank));
      }
    }
  }

  const Schedule& schedule_;
  const Demand& demand_;
  int strands_;
  bool backward_;
  BlockIndex index_;
  SlotTable slots_;
  std::vector<Use> uses_;               // by rank, then block part
  std::vector<RankSet> own_gradients_;  // by block part, at its owner
};

}  // namespace

void validate_form(const Schedule& schedule, const Demand& demand,
                   int strands) {
  check_form(schedule, demand, strands, BlockIndex(demand, strands));
}

void validate(const Schedule& schedule, const Demand& demand, int strands) {
  AttentionPlayer(schedule, demand, strands).play();
}

}  // namespace ringweave::schedule
