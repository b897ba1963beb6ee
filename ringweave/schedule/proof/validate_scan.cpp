#include <string>
#include <utility>
#include <vector>

#include "ringweave/base/error.h"
#include "ringweave/schedule/proof/schedule_player.h"
#include "ringweave/schedule/proof/validate.h"

namespace ringweave::schedule {
namespace {

[[noreturn]] void fail(const char* kind, const std::string& what,
                       const std::string& why) {
  throw InvalidArgument(
      fmt::format("[validate_scan] {} {}: {}", kind, what, why));
}

[[noreturn]] void fail(const char* kind, Subject what, const std::string& why) {
  fail(kind, describe(what), why);
}

// Plays transfers of summaries, whatever brings them about.
class SummaryPlayer {
 public:
  SummaryPlayer(const Schedule& schedule, const Demand& demand, int strands)
      : schedule_(schedule),
        demand_(demand),
        strands_(strands),
        index_(demand, strands),
        slots_(demand.ranks()) {
    check_form(schedule, demand, strands, index_);
    if (schedule.pass != Pass::forward || !schedule.tiles.empty()) {
      throw InvalidArgument(
          "[validate_scan] got a backward pass or tiles; want a forward pass "
          "without tiles");
    }
    uses_.resize(static_cast<std::size_t>(schedule.ranks) * index_.count());
  }

  void play() {
    for (const auto& [step, events] : events_by_step(schedule_)) {
      for (const int i : events.waits) finish(schedule_.transfers[i]);
      for (const int i : events.posts) send(schedule_.transfers[i]);
      for (const int i : events.posts) receive(schedule_.transfers[i]);
    }
    for (const Transfer& t : schedule_.transfers) {
      const Use& its = use(t.to, t.block);
      if (its.passed_on || demand_.needs(t.to, t.block, strands_)) continue;
      fail("impossible", &t,
           "the receiver neither needs the block nor passes it on");
    }
    for (int i = 0; i < index_.count(); ++i) {
      const BlockId block = index_.id(i);
      for (Rank rank = 0; rank < schedule_.ranks; ++rank) {
        if (rank != block.owner && demand_.needs(rank, block, strands_) &&
            !use(rank, block).held) {
          fail("missing", "transfer",
               fmt::format("rank {} needs {}", rank, block));
        }
      }
    }
  }

  void check_all_retained() {
    for (const Retained& kept : schedule_.retained) {
      const Subject what = &kept;
      slots_.readable(kept.rank, Payload::summary, kept.slot, kept.block, what);
      Use& its = use(kept.rank, kept.block);
      if (its.retained) fail("doubled", what, "it is listed twice");
      its.retained = true;
    }
    for (const Transfer& t : schedule_.transfers) {
      if (!use(t.to, t.block).retained) {
        fail("missing", "retained " + describe(t.block),
             fmt::format("rank {} receives it", t.to));
      }
    }
  }

 private:
  // What has happened to a block part on a rank.
  struct Use {
    bool held = false;  // its receive was posted
    bool passed_on = false;
    bool retained = false;
  };

  Use& use(Rank rank, const BlockId& block) {
    return uses_[static_cast<std::size_t>(rank) * index_.count() +
                 index_[block]];
  }

  void send(const Transfer& t) {
    if (t.payload != Payload::summary || t.action == Action::add) {
      fail("impossible", &t,
           fmt::format("got payload {} with action {}; want summaries, copied "
                       "or composed",
                       name(t.payload), name(t.action)));
    }
    if (t.source_slot != kOwn) {
      ++slots_.readable(t.from, t.payload, t.source_slot, t.block, &t).readers;
      use(t.from, t.block).passed_on = true;
    } else if (t.from != t.block.owner) {
      fail("impossible", &t, "only the owner has the block in its own slot");
    }
  }

  void receive(const Transfer& t) {
    Use& its = use(t.to, t.block);
    if (its.held || t.to == t.block.owner) {
      fail("doubled", &t, "the receiver has the block");
    }
    its.held = true;
    PartState& target = slots_.writable(t.to, t.payload, t.slot, t.block, &t);
    target.arriving = true;
    target.present = false;
  }

  void finish(const Transfer& t) {
    if (t.source_slot != kOwn) {
      --slots_.find(t.from, t.payload, t.source_slot, t.block)->readers;
    }
    PartState& arrived = *slots_.find(t.to, t.payload, t.slot, t.block);
    arrived.arriving = false;
    arrived.present = true;
  }

  const Schedule& schedule_;
  const Demand& demand_;
  int strands_;
  BlockIndex index_;
  SlotTable slots_;
  std::vector<Use> uses_;  // by rank, then block part
};

std::string text(const Composed& what) {
  return fmt::format("{}segments {} … {}, slice {}",
                     what.decay ? "the decay of " : "", what.places.begin,
                     what.places.end - 1, what.slice);
}

// The transfers bring every block where it is needed, once; this checks that
// ranks can compose what they send, when they send it, and what they need.
void check_composing(const Schedule& schedule, const ScanDemand& demand) {
  std::vector<Holdings> held;
  for (Rank rank = 0; rank < schedule.ranks; ++rank) {
    held.emplace_back(demand, rank);
  }
  for (const auto& [step, events] : events_by_step(schedule)) {
    for (const int i : events.waits) {
      held[schedule.transfers[i].to].add(schedule.transfers[i].block);
    }
    for (const int i : events.posts) {
      const Transfer& t = schedule.transfers[i];
      const Composed what = demand.composed(t.block);
      if (t.action != demand.action(what)) {
        fail("impossible", &t,
             "want the state after all segments copied, and all else composed");
      }
      if (t.source_slot == kOwn && !held[t.from].pieces(what)) {
        fail("impossible", &t,
             "of what it is composed, something has not arrived by then");
      }
    }
  }
  for (Rank rank = 0; rank < schedule.ranks; ++rank) {
    for (const Composed& what : demand.results(rank)) {
      if (held[rank].pieces(what)) continue;
      fail("missing", "transfer",
           fmt::format("rank {} can't compose {}", rank, text(what)));
    }
  }
}

}  // namespace

void validate_scan(const Schedule& schedule, const Demand& demand,
                   int strands) {
  SummaryPlayer player(schedule, demand, strands);
  for (const Transfer& t : schedule.transfers) {
    if (t.action == Action::compose) {
      fail("impossible", &t, "summaries are composed where they are needed");
    }
  }
  player.play();
  player.check_all_retained();
}

void validate_scan(const Schedule& schedule, const ScanDemand& demand) {
  SummaryPlayer player(schedule, demand, demand.strands());
  player.play();
  player.check_all_retained();
  check_composing(schedule, demand);
}

}  // namespace ringweave::schedule
