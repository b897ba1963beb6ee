#include "ringweave/plan/schedule_builder.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace ringweave::plan {
namespace {

// In order of before(), of which post_step comes first. Dealing them out by
// step leaves many short lists to sort, which takes a tenth less time.
std::vector<Transfer> sorted(const std::vector<Transfer>& transfers,
                             int steps) {
  std::vector<std::size_t> ends(steps + 1, 0);
  for (const Transfer& transfer : transfers) ++ends[transfer.post_step + 1];
  std::partial_sum(ends.begin(), ends.end(), ends.begin());
  ends.pop_back();  // begins, until all are dealt out
  std::vector<Transfer> all(transfers.size());
  for (const Transfer& transfer : transfers) {
    all[ends[transfer.post_step]++] = transfer;
  }
  std::size_t begin = 0;
  for (const std::size_t end : ends) {
    std::sort(
        all.begin() + begin, all.begin() + end,
        [](const Transfer& a, const Transfer& b) { return before(a, b); });
    begin = end;
  }
  return all;
}

}  // namespace

ScheduleBuilder::ScheduleBuilder(const Demand& demand, int strands, Pass pass,
                                 int steps)
    : demand_(demand),
      strands_(strands),
      last_part_(static_cast<std::size_t>(demand.ranks()) * strands, -1) {
  schedule_.ranks = demand.ranks();
  schedule_.pass = pass;
  schedule_.steps = steps;
}

void ScheduleBuilder::name_block(const BlockId& block) {
  int& last = last_part_[static_cast<std::size_t>(block.owner) * strands_ +
                         block.strand];
  last = std::max(last, block.part);
}

void ScheduleBuilder::add(const Transfer& transfer) {
  name_block(transfer.block);
  schedule_.transfers.push_back(transfer);
}

void ScheduleBuilder::add(const Tile& tile) {
  name_block(tile.block);
  schedule_.tiles.push_back(tile);
}

void ScheduleBuilder::add(const Retained& retained) {
  name_block(retained.block);
  schedule_.retained.push_back(retained);
}

Schedule ScheduleBuilder::finish() {
  for (Rank owner = 0; owner < schedule_.ranks; ++owner) {
    for (int strand = 0; strand < strands_; ++strand) {
      const int last =
          last_part_[static_cast<std::size_t>(owner) * strands_ + strand];
      for (int part = 0; part <= last; ++part) {
        const BlockId id{owner, strand, part};
        const std::int64_t size = demand_.size(id, strands_);
        if (size > 0) schedule_.blocks.push_back({id, size});
      }
    }
  }
  schedule_.transfers = sorted(schedule_.transfers, schedule_.steps);
  std::sort(schedule_.tiles.begin(), schedule_.tiles.end(),
            [](const Tile& a, const Tile& b) { return before(a, b); });
  std::sort(schedule_.retained.begin(), schedule_.retained.end());
  return std::move(schedule_);
}

}  // namespace ringweave::plan
