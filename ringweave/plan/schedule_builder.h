// Collects what a generator emits and puts it in order.
#pragma once

#include <vector>

#include "ringweave/plan/demand.h"
#include "ringweave/plan/schedule.h"

namespace ringweave::plan {

class ScheduleBuilder {
 public:
  /// `demand` must outlive this.
  ScheduleBuilder(const Demand& demand, int strands, Pass pass, int steps);

  void add(const Transfer& transfer);
  void add(const Tile& tile);
  void add(const Retained& retained);

  /// Sorts everything and lists the blocks. The builder is used up.
  Schedule finish();

 private:
  void name_block(const BlockId& block);

  const Demand& demand_;
  int strands_;
  Schedule schedule_;
  std::vector<int> last_part_;  // highest part named of each (owner, strand)
};

}  // namespace ringweave::plan
