// Where a rank's own parts lie in its packed block: strand by strand, and in
// each strand part by part, without gaps.
#pragma once

#include <vector>

#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/program/placement.h"

namespace ringweave::schedule {

class OwnBlock {
 public:
  OwnBlock(const Demand& demand, Rank rank, int strands);

  /// Of one of the rank's own parts.
  const Place& place(const BlockId& block) const {
    return places_.at(static_cast<std::size_t>(block.strand) * parts_ +
                      block.part);
  }
  /// Of all parts, in units.
  std::int64_t size() const { return size_; }

 private:
  int parts_;
  std::vector<Place> places_;
  std::int64_t size_ = 0;
};

}  // namespace ringweave::schedule
