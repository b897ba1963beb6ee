#include "ringweave/schedule/proof/schedule_player.h"

#include <algorithm>

#include "ringweave/base/error.h"

namespace ringweave::schedule {
namespace {

constexpr const char* kValidateWhere = "[validate]";

bool in_range(Rank rank, const Schedule& schedule) {
  return rank >= 0 && rank < schedule.ranks;
}

void check_blocks(const Schedule& schedule, const Demand& demand, int strands,
                  const BlockIndex& index) {
  BlockId expected;  // the next part of the strand that must be listed
  for (std::size_t i = 0; i < schedule.blocks.size(); ++i) {
    const auto& [id, size] = schedule.blocks[i];
    require(index.contains(id), "{} impossible {}: there is none",
            kValidateWhere, id);
    require(i == 0 || schedule.blocks[i - 1].id < id,
            "{} doubled or unsorted {} in the list of blocks", kValidateWhere,
            id);
    const std::int64_t want = demand.size(id, strands);
    require(size == want && size > 0,
            "{} got size {} of {}; want {}, and no empty parts", kValidateWhere,
            size, id, want);
    const bool same =
        i > 0 && expected.owner == id.owner && expected.strand == id.strand;
    if (!same) expected = {id.owner, id.strand, 0};
    for (; expected.part < id.part; ++expected.part) {
      require(demand.size(expected, strands) == 0,
              "{} missing {} in the list of blocks", kValidateWhere, expected);
    }
    ++expected.part;
  }
}

void check_transfer(const Transfer& transfer, const Schedule& schedule) {
  const auto& t = transfer;
  require(
      in_range(t.from, schedule) && in_range(t.to, schedule) && t.from != t.to,
      "{} impossible {}: want two different ranks 0 … {}", kValidateWhere,
      Subject(&t), schedule.ranks - 1);
  require(t.post_step >= 0 && t.post_step < t.wait_step &&
              t.wait_step <= schedule.steps,
          "{} impossible {}: want 0 <= post step < wait step <= {}",
          kValidateWhere, Subject(&t), schedule.steps);
  require(t.slot >= 0 && t.source_slot >= kOwn,
          "{} impossible {}: got slots {} and {}; want numbers >= 0, or {} for "
          "the sender's own block",
          kValidateWhere, Subject(&t), t.source_slot, t.slot, kOwn);
}

void check_tile(const Tile& tile, const Schedule& schedule) {
  require(in_range(tile.rank, schedule),
          "{} impossible {}: want a rank of 0 … {}", kValidateWhere,
          Subject(&tile), schedule.ranks - 1);
  require(tile.step >= 0 && tile.step < schedule.steps,
          "{} impossible {}: want a step of 0 … {}", kValidateWhere,
          Subject(&tile), schedule.steps - 1);
  require(tile.slot >= kOwn && tile.grad_slot >= kOwn,
          "{} impossible {}: got slots {} and {}; want numbers >= {}",
          kValidateWhere, Subject(&tile), tile.slot, tile.grad_slot, kOwn);
}

std::string text(const Transfer& t) {
  return fmt::format(
      "transfer of {} of {} from rank {} to rank {}, steps {} … {}",
      name(t.payload), t.block, t.from, t.to, t.post_step, t.wait_step);
}

std::string text(const Tile& tile) {
  return fmt::format("tile of {} on rank {}, step {}", tile.block, tile.rank,
                     tile.step);
}

std::string text(const Retained& kept) {
  return fmt::format("retained {} on rank {}", kept.block, kept.rank);
}

}  // namespace

std::string describe(const BlockId& block) {
  return fmt::format("block (owner {}, strand {}, part {})", block.owner,
                     block.strand, block.part);
}

std::string describe(Subject subject) {
  return std::visit([](const auto* one) { return text(*one); }, subject);
}

BlockIndex::BlockIndex(const Demand& demand, int strands) : strands_(strands) {
  require(strands >= 1, "{} got {} strands; want at least 1", kValidateWhere,
          strands);
  for (Rank owner = 0; owner < demand.ranks(); ++owner) {
    first_.push_back(count_);
    parts_.push_back(demand.parts(owner));
    count_ += strands * parts_.back();
  }
  first_.push_back(count_);
}

bool BlockIndex::contains(const BlockId& block) const {
  return block.owner >= 0 && block.owner < static_cast<int>(parts_.size()) &&
         block.strand >= 0 && block.strand < strands_ && block.part >= 0 &&
         block.part < parts_[block.owner];
}

int BlockIndex::operator[](const BlockId& block) const {
  return first_[block.owner] + block.strand * parts_[block.owner] + block.part;
}

BlockId BlockIndex::id(int index) const {
  const auto next = std::upper_bound(first_.begin(), first_.end(), index);
  const Rank owner = static_cast<Rank>(next - first_.begin()) - 1;
  const int inside = index - first_[owner];
  return {owner, inside / parts_[owner], inside % parts_[owner]};
}

void check_form(const Schedule& schedule, const Demand& demand, int strands,
                const BlockIndex& index) {
  require(schedule.ranks == demand.ranks(),
          "{} got a schedule of {} ranks; want {}", kValidateWhere,
          schedule.ranks, demand.ranks());
  // Every step costs memory in an executor. No strategy takes more than some
  // steps per block part.
  const std::int64_t most = 4 * (std::int64_t{index.count()} + strands + 1);
  require(schedule.steps >= 1 && schedule.steps <= most,
          "{} got {} steps; want 1 … {}", kValidateWhere, schedule.steps, most);
  check_blocks(schedule, demand, strands, index);

  std::vector<char> listed(index.count(), 0);
  for (const Block& block : schedule.blocks) listed[index[block.id]] = 1;
  const auto check_listed = [&](const BlockId& id, Subject what) {
    require(index.contains(id), "{} impossible {}: there is no such block",
            kValidateWhere, what);
    require(listed[index[id]],
            "{} impossible {}: the block is empty or not "
            "in the list of blocks",
            kValidateWhere, what);
  };
  for (const Transfer& transfer : schedule.transfers) {
    check_transfer(transfer, schedule);
    check_listed(transfer.block, &transfer);
  }
  for (const Tile& tile : schedule.tiles) {
    check_tile(tile, schedule);
    check_listed(tile.block, &tile);
  }
  for (const Retained& kept : schedule.retained) {
    require(in_range(kept.rank, schedule) && kept.slot >= 0,
            "{} impossible {}: want ranks 0 … {} and slots >= 0, got slot {}",
            kValidateWhere, Subject(&kept), schedule.ranks - 1, kept.slot);
    check_listed(kept.block, &kept);
  }
}

std::map<int, StepEvents> events_by_step(const Schedule& schedule) {
  std::map<int, StepEvents> events;
  for (std::size_t i = 0; i < schedule.transfers.size(); ++i) {
    events[schedule.transfers[i].post_step].posts.push_back(
        static_cast<int>(i));
    events[schedule.transfers[i].wait_step].waits.push_back(
        static_cast<int>(i));
  }
  for (std::size_t i = 0; i < schedule.tiles.size(); ++i) {
    events[schedule.tiles[i].step].tiles.push_back(static_cast<int>(i));
  }
  return events;
}

bool RankSet::empty() const {
  return std::all_of(words_.begin(), words_.end(),
                     [](std::uint64_t word) { return word == 0; });
}

bool RankSet::intersects(const RankSet& other) const {
  for (std::size_t i = 0; i < words_.size(); ++i) {
    if (words_[i] & other.words_[i]) return true;
  }
  return false;
}

void RankSet::unite(const RankSet& other) {
  for (std::size_t i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
}

SlotTable::SlotTable(int ranks)
    : dense_(static_cast<std::size_t>(ranks) * kPayloads) {}

SlotState& SlotTable::slot(Rank rank, Payload payload, int slot) {
  const std::uint64_t row =
      static_cast<std::uint64_t>(rank) * kPayloads + static_cast<int>(payload);
  if (slot >= kDense) {
    return sparse_[row << 32 | static_cast<std::uint32_t>(slot)];
  }
  std::deque<SlotState>& slots = dense_[row];
  const auto number = static_cast<std::size_t>(slot);
  if (slots.size() <= number) slots.resize(number + 1);
  return slots[number];
}

PartState* SlotTable::find(Rank rank, Payload payload, int slot_number,
                           const BlockId& block) {
  SlotState& state = slot(rank, payload, slot_number);
  const auto part = static_cast<std::size_t>(block.part);
  return state.holds(block) && part < state.parts.size() ? &state.parts[part]
                                                         : nullptr;
}

PartState& SlotTable::readable(Rank rank, Payload payload, int slot_number,
                               const BlockId& block, Subject what) {
  PartState* part = find(rank, payload, slot_number, block);
  require(part && (part->present || part->arriving),
          "{} impossible {}: slot {} of {} on rank {} does not hold the block "
          "then; a transfer is missing or comes too late",
          kValidateWhere, what, slot_number, name(payload), rank);
  require(!part->arriving,
          "{} impossible {}: slot {} of {} on rank {} is being received into",
          kValidateWhere, what, slot_number, name(payload), rank);
  return *part;
}

PartState& SlotTable::writable(Rank rank, Payload payload, int slot_number,
                               const BlockId& block, Subject what) {
  SlotState& state = slot(rank, payload, slot_number);
  const auto part = static_cast<std::size_t>(block.part);
  const bool same = state.holds(block);
  for (std::size_t i = 0; i < state.parts.size(); ++i) {
    if (same && i != part) continue;
    require(state.parts[i].readers == 0 && !state.parts[i].arriving,
            "{} impossible {}: slot {} of {} on rank {} is still in use",
            kValidateWhere, what, slot_number, name(payload), rank);
  }
  if (!same) {
    state.parts.clear();
    state.block = block;
  }
  if (state.parts.size() <= part) state.parts.resize(part + 1);
  return state.parts[part];
}

}  // namespace ringweave::schedule
