#include "ringweave/schedule/program/outline.h"

#include <algorithm>
#include <memory>
#include <tuple>
#include <utility>

#include "ringweave/base/error.h"

namespace ringweave::schedule {
namespace {

/// What the transfers of one message agree in. Messages are posted in this
/// order, which is the same on both sides.
auto message_key(const Transfer& transfer) {
  return std::tuple(transfer.post_step, transfer.from, transfer.to,
                    transfer.block.owner, transfer.block.strand,
                    transfer.payload, transfer.action, transfer.wait_step,
                    transfer.source_slot, transfer.slot);
}

void check(const Transfer& transfer, int steps) {
  ensure(transfer.from != transfer.to && transfer.post_step >= 0 &&
             transfer.post_step < transfer.wait_step &&
             transfer.wait_step <= steps,
         "a transfer from rank {} to rank {} from step {} to step {} of {}",
         transfer.from, transfer.to, transfer.post_step, transfer.wait_step,
         steps);
}

std::vector<Message> coalesce(const Schedule& part,
                              std::vector<Transfer> transfers,
                              const SideBySide& side_by_side) {
  std::ranges::sort(transfers, {}, [](const Transfer& transfer) {
    return std::tuple_cat(message_key(transfer),
                          std::tuple(transfer.block.part));
  });
  std::vector<Message> messages;
  const Transfer* last = nullptr;
  for (const Transfer& transfer : transfers) {
    const std::int64_t size = block_size(part, transfer.block);
    ensure(size > 0, "a transfer of part {} of strand {} of rank {}: no size",
           transfer.block.part, transfer.block.strand, transfer.block.owner);
    if (last && share_message(*last, transfer, side_by_side)) {
      ++messages.back().parts;
      messages.back().size += size;
    } else {
      messages.push_back({.first = transfer, .size = size});
    }
    last = &transfer;
  }
  return messages;
}

Outline outline_of(const Schedule& part, Rank rank,
                   std::vector<Transfer> transfers,
                   const std::vector<Tile>& tiles,
                   const SideBySide& side_by_side) {
  Outline outline{
      .rank = rank,
      .messages = coalesce(part, std::move(transfers), side_by_side),
      .steps = {}};
  outline.steps.resize(part.steps + 1);
  for (int i = 0; i < static_cast<int>(outline.messages.size()); ++i) {
    const Transfer& transfer = outline.messages[i].first;
    Outline::Step& post = outline.steps[transfer.post_step];
    (transfer.to == rank ? post.receives : post.sends).push_back(i);
    outline.steps[transfer.wait_step].waits.push_back(i);
  }
  for (Outline::Step& step : outline.steps) {
    // Arrivals come first: their work is done while the sends drain.
    std::ranges::sort(step.waits, {}, [&](int i) {
      const Transfer& transfer = outline.messages[i].first;
      return std::tuple(transfer.from == rank, transfer.from, transfer.block,
                        i);
    });
  }
  for (const Tile& tile : tiles) {
    ensure(tile.step >= 0 && tile.step < part.steps, "a tile in step {} of {}",
           tile.step, part.steps);
    outline.steps[tile.step].tiles.push_back(tile);
  }
  return outline;
}

/// Answers per rank and part, two bits each, asked for when they are wanted.
class SideBySideTable {
 public:
  SideBySideTable(const Demand& demand, int strands)
      : demand_(demand), strands_(strands) {
    for (Rank owner = 0; owner < demand.ranks(); ++owner) {
      first_.push_back(parts_);
      parts_ += demand.parts(owner);
    }
    answers_.resize(parts_ * demand.ranks(), kUnknown);
  }

  bool operator()(Rank rank, const BlockId& block) {
    std::uint8_t& answer =
        answers_[rank * parts_ + first_[block.owner] + block.part];
    if (answer == kUnknown) {
      answer = static_cast<std::uint8_t>(
          demand_.strands_side_by_side(rank, block.owner, block.part));
    }
    const auto strands = static_cast<Strands>(answer);
    return strands == Strands::some
               ? demand_.side_by_side(rank, block, strands_)
               : strands == Strands::all;
  }

 private:
  static constexpr std::uint8_t kUnknown = 0xff;

  const Demand& demand_;
  int strands_;
  std::size_t parts_ = 0;
  std::vector<std::size_t> first_;  // of each owner, number of its part 0
  std::vector<std::uint8_t> answers_;
};

}  // namespace

SideBySide side_by_side(const Demand& demand, int strands) {
  auto table = std::make_shared<SideBySideTable>(demand, strands);
  return [table](Rank rank, const BlockId& block) {
    return (*table)(rank, block);
  };
}

bool share_message(const Transfer& a, const Transfer& b,
                   const SideBySide& side_by_side) {
  return message_key(a) == message_key(b) && a.block.part + 1 == b.block.part &&
         (!side_by_side ||
          (side_by_side(a.from, a.block) && side_by_side(a.to, a.block)));
}

Outline make_outline(const Schedule& part, Rank rank,
                     const SideBySide& side_by_side) {
  std::vector<Transfer> transfers;
  for (const Transfer& transfer : part.transfers) {
    if (transfer.from != rank && transfer.to != rank) continue;
    check(transfer, part.steps);
    transfers.push_back(transfer);
  }
  std::vector<Tile> tiles;
  std::ranges::copy_if(part.tiles, std::back_inserter(tiles),
                       [&](const Tile& tile) { return tile.rank == rank; });
  return outline_of(part, rank, std::move(transfers), tiles, side_by_side);
}

std::vector<Outline> make_outlines(const Schedule& schedule,
                                   const SideBySide& side_by_side) {
  std::vector<std::vector<Transfer>> transfers(schedule.ranks);
  std::vector<std::vector<Tile>> tiles(schedule.ranks);
  std::vector<std::size_t> counts(schedule.ranks);
  for (const Transfer& transfer : schedule.transfers) {
    check(transfer, schedule.steps);
    ++counts[transfer.from];
    ++counts[transfer.to];
  }
  for (Rank rank = 0; rank < schedule.ranks; ++rank) {
    transfers[rank].reserve(counts[rank]);
  }
  for (const Transfer& transfer : schedule.transfers) {
    transfers[transfer.from].push_back(transfer);
    transfers[transfer.to].push_back(transfer);
  }
  for (const Tile& tile : schedule.tiles) tiles[tile.rank].push_back(tile);
  std::vector<Outline> outlines;
  outlines.reserve(schedule.ranks);
  for (Rank rank = 0; rank < schedule.ranks; ++rank) {
    outlines.push_back(outline_of(schedule, rank, std::move(transfers[rank]),
                                  tiles[rank], side_by_side));
  }
  return outlines;
}

}  // namespace ringweave::schedule
