#include "ringweave/schedule/strategy/direct_schedule.h"

#include "ringweave/schedule/need_table.h"

namespace ringweave::schedule {
namespace {

// Calls emit(block, user, computed) for every part and every rank that needs
// it; with `rank` only for those it owns or uses. `computed`: the user is one
// of the ranks whose tiles are wanted.
template <typename Emit>
void for_each_use(const Demand& demand, int strands, std::optional<Rank> rank,
                  Emit emit) {
  const int n = demand.ranks();
  NeedTable table(demand, strands);
  for (int strand = 0; strand < strands; ++strand) {
    for (Rank owner = 0; owner < n; ++owner) {
      const bool all_users = !rank || *rank == owner;
      for (Rank user = all_users ? 0 : *rank;
           user < (all_users ? n : *rank + 1); ++user) {
        for (int part = 0; part < demand.parts(owner); ++part) {
          const BlockId block{owner, strand, part};
          if (!table.needs(user, block)) continue;
          emit(block, user, !rank || *rank == user);
        }
      }
    }
  }
}

}  // namespace

void emit_direct(const Demand& demand, int strands, Pass pass,
                 std::optional<Rank> rank, ScheduleSink& sink) {
  const int n = demand.ranks();
  const bool backward = pass == Pass::backward;
  for_each_use(
      demand, strands, rank,
      [&](const BlockId& block, Rank user, bool computed) {
        if (user == block.owner) {
          if (computed) sink.add(Tile{user, 0, block, kOwn, kOwn});
          return;
        }
        const int step = block.strand;
        const int slot = step % 2 * n + block.owner;
        const int staging = 2 * n + user;
        sink.add(Transfer{block.owner, user, block, Payload::kv, Action::copy,
                          step, step + 1, kOwn, slot});
        if (computed) {
          sink.add(Tile{user, step + 1, block, slot, backward ? slot : kOwn});
        }
        if (backward) {
          sink.add(Transfer{user, block.owner, block, Payload::kv_grad,
                            Action::add, step + 2, step + 3, slot, staging});
        }
      });
}

void emit_all_gather(const Demand& demand, Pass pass, std::optional<Rank> rank,
                     bool retain, ScheduleSink& sink) {
  const int n = demand.ranks();
  const bool backward = pass == Pass::backward;
  for_each_use(
      demand, 1, rank, [&](const BlockId& block, Rank user, bool computed) {
        if (user == block.owner) {
          if (computed) sink.add(Tile{user, 1, block, kOwn, kOwn});
          return;
        }
        const int slot = block.owner;
        if (backward) {
          sink.add(Transfer{user, block.owner, block, Payload::kv_grad,
                            Action::add, 1, 2, slot, n + user});
        } else {
          sink.add(Transfer{block.owner, user, block, Payload::kv, Action::copy,
                            0, 1, kOwn, slot});
        }
        if (!computed) return;
        sink.add(
            Tile{user, backward ? 0 : 1, block, slot, backward ? slot : kOwn});
        if (backward || retain) sink.add(Retained{user, block, slot});
      });
}

void emit_direct_summaries(const Demand& demand, int strands,
                           std::optional<Rank> rank, ScheduleSink& sink) {
  for_each_use(demand, strands, rank,
               [&](const BlockId& block, Rank user, bool computed) {
                 if (user == block.owner) return;
                 const int slot = block.owner * strands + block.strand;
                 sink.add(Transfer{block.owner, user, block, Payload::summary,
                                   Action::copy, block.strand, block.strand + 1,
                                   kOwn, slot});
                 if (computed) sink.add(Retained{user, block, slot});
               });
}

}  // namespace ringweave::schedule
