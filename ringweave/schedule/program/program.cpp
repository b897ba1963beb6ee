#include "ringweave/schedule/program/program.h"

#include <algorithm>
#include <iterator>
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
                              std::vector<Transfer> transfers) {
  std::ranges::sort(transfers, {}, [](const Transfer& transfer) {
    return std::tuple_cat(message_key(transfer),
                          std::tuple(transfer.block.part));
  });
  std::vector<Message> messages;
  for (const Transfer& transfer : transfers) {
    const std::int64_t size = block_size(part, transfer.block);
    ensure(size > 0, "a transfer of part {} of strand {} of rank {}: no size",
           transfer.block.part, transfer.block.strand, transfer.block.owner);
    if (!messages.empty()) {
      Message& last = messages.back();
      if (message_key(last.first) == message_key(transfer) &&
          last.first.block.part + last.parts == transfer.block.part) {
        ++last.parts;
        last.size += size;
        continue;
      }
    }
    messages.push_back({.first = transfer,
                        .offset = part_offset(part, transfer.block),
                        .size = size});
  }
  return messages;
}

Program program_of(const Schedule& part, Rank rank,
                   std::vector<Transfer> transfers,
                   const std::vector<Tile>& tiles) {
  Program program{.rank = rank,
                  .messages = coalesce(part, std::move(transfers)),
                  .steps = {}};
  program.steps.resize(part.steps + 1);
  for (int i = 0; i < static_cast<int>(program.messages.size()); ++i) {
    const Transfer& transfer = program.messages[i].first;
    Program::Step& post = program.steps[transfer.post_step];
    (transfer.to == rank ? post.receives : post.sends).push_back(i);
    program.steps[transfer.wait_step].waits.push_back(i);
  }
  for (Program::Step& step : program.steps) {
    // Arrivals come first: their work is done while the sends drain. A copy may
    // be what others of the step are added to.
    std::ranges::sort(step.waits, {}, [&](int i) {
      const Transfer& transfer = program.messages[i].first;
      return std::tuple(transfer.from == rank, transfer.action == Action::add,
                        transfer.from, transfer.block, i);
    });
  }
  for (const Tile& tile : tiles) {
    ensure(tile.step >= 0 && tile.step < part.steps, "a tile in step {} of {}",
           tile.step, part.steps);
    program.steps[tile.step].tiles.push_back(tile);
  }
  return program;
}

}  // namespace

Program make_program(const Schedule& part, Rank rank) {
  std::vector<Transfer> transfers;
  for (const Transfer& transfer : part.transfers) {
    if (transfer.from != rank && transfer.to != rank) continue;
    check(transfer, part.steps);
    transfers.push_back(transfer);
  }
  std::vector<Tile> tiles;
  std::ranges::copy_if(part.tiles, std::back_inserter(tiles),
                       [&](const Tile& tile) { return tile.rank == rank; });
  return program_of(part, rank, std::move(transfers), tiles);
}

std::vector<Program> make_programs(const Schedule& schedule) {
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
  std::vector<Program> programs;
  programs.reserve(schedule.ranks);
  for (Rank rank = 0; rank < schedule.ranks; ++rank) {
    programs.push_back(
        program_of(schedule, rank, std::move(transfers[rank]), tiles[rank]));
  }
  return programs;
}

}  // namespace ringweave::schedule
