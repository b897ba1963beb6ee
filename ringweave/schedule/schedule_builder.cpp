#include "ringweave/schedule/schedule_builder.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace ringweave::schedule {
namespace {

// Below the step, what before() compares first, in numbers below the ranks'.
Rank major(const Transfer& transfer) { return transfer.from; }
Rank minor(const Transfer& transfer) { return transfer.to; }
Rank major(const Tile& tile) { return tile.rank; }
Rank minor(const Tile& tile) { return tile.block.owner; }

// Stable, by key(item), 0 … keys - 1.
template <typename T, typename Key>
void deal_out(const std::vector<T>& items, int keys, Key key,
              std::vector<T>& dealt) {
  std::vector<std::size_t> place(keys + 1, 0);
  for (const T& item : items) ++place[key(item) + 1];
  std::partial_sum(place.begin(), place.end(), place.begin());
  dealt.resize(items.size());
  for (const T& item : items) dealt[place[key(item)]++] = item;
}

// Into the order of before(): the items of one step.
template <typename T>
void sort_step(std::vector<T>& items, int ranks, std::vector<T>& scratch) {
  const auto in_order = [](const T& a, const T& b) { return before(a, b); };
  if (8 * items.size() < static_cast<std::size_t>(ranks)) {
    std::sort(items.begin(), items.end(), in_order);
    return;
  }
  deal_out(
      items, ranks, [](const T& item) { return minor(item); }, scratch);
  deal_out(
      scratch, ranks, [](const T& item) { return major(item); }, items);
  for (auto begin = items.begin(); begin != items.end();) {
    const auto end = std::find_if(begin, items.end(), [&](const T& item) {
      return major(item) != major(*begin) || minor(item) != minor(*begin);
    });
    std::sort(begin, end, in_order);
    begin = end;
  }
}

// Uses up its argument, a step at a time, so that not all is there twice.
template <typename T>
std::vector<T> sorted(std::vector<std::vector<T>> steps, int ranks) {
  std::size_t size = 0;
  for (const std::vector<T>& items : steps) size += items.size();
  std::vector<T> all;
  all.reserve(size);
  std::vector<T> scratch;
  for (std::vector<T>& step : steps) {
    std::vector<T> items = std::move(step);
    sort_step(items, ranks, scratch);
    all.insert(all.end(), items.begin(), items.end());
  }
  return all;
}

}  // namespace

ScheduleBuilder::ScheduleBuilder(const Demand& demand, int strands, Pass pass,
                                 int steps)
    : demand_(demand), strands_(strands), transfers_(steps), tiles_(steps) {
  schedule_.ranks = demand.ranks();
  schedule_.pass = pass;
  schedule_.steps = steps;
  std::size_t parts = 0;
  for (Rank owner = 0; owner < demand.ranks(); ++owner) {
    first_.push_back(parts);
    parts += static_cast<std::size_t>(strands) * demand.parts(owner);
  }
  named_.resize(parts);
}

void ScheduleBuilder::name_block(const BlockId& block) {
  const std::size_t parts = demand_.parts(block.owner);
  named_[first_[block.owner] + block.strand * parts + block.part] = true;
}

void ScheduleBuilder::add(const Transfer& transfer) {
  name_block(transfer.block);
  transfers_[transfer.post_step].push_back(transfer);
}

void ScheduleBuilder::add(const Tile& tile) {
  name_block(tile.block);
  tiles_[tile.step].push_back(tile);
}

void ScheduleBuilder::add(const Retained& retained) {
  name_block(retained.block);
  schedule_.retained.push_back(retained);
}

std::vector<Block> ScheduleBuilder::blocks() const {
  std::vector<Block> blocks;
  blocks.reserve(std::count(named_.begin(), named_.end(), true));
  std::size_t place = 0;
  for (Rank owner = 0; owner < schedule_.ranks; ++owner) {
    const int parts = demand_.parts(owner);
    for (int strand = 0; strand < strands_; ++strand, place += parts) {
      int end = parts;  // after the last part that is named
      while (end > 0 && !named_[place + end - 1]) --end;
      for (int part = 0; part < end; ++part) {
        const BlockId id{owner, strand, part};
        const std::int64_t size = demand_.size(id, strands_);
        if (size > 0) blocks.push_back({id, size});
      }
    }
  }
  return blocks;
}

Schedule ScheduleBuilder::finish() {
  schedule_.blocks = blocks();
  schedule_.transfers = sorted(std::move(transfers_), schedule_.ranks);
  schedule_.tiles = sorted(std::move(tiles_), schedule_.ranks);
  std::sort(schedule_.retained.begin(), schedule_.retained.end());
  return std::move(schedule_);
}

}  // namespace ringweave::schedule
