#include "ringweave/plan/schedule_builder.h"

#include <algorithm>
#include <utility>

namespace ringweave::plan {

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
  const auto in_order = [](const auto& a, const auto& b) {
    return before(a, b);
  };
  std::sort(schedule_.transfers.begin(), schedule_.transfers.end(), in_order);
  std::sort(schedule_.tiles.begin(), schedule_.tiles.end(), in_order);
  std::sort(schedule_.retained.begin(), schedule_.retained.end());
  return std::move(schedule_);
}

}  // namespace ringweave::plan
