// Where generators put what they make: a schedule, or what its reader wants to
// know of it.
#pragma once

#include <vector>

#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/schedule.h"

namespace ringweave::schedule {

/// Takes transfers, tiles and what is retained one by one, in no order.
class ScheduleSink {
 public:
  virtual ~ScheduleSink() = default;
  virtual void add(const Transfer& transfer) = 0;
  virtual void add(const Tile& tile) = 0;
  virtual void add(const Retained& retained) = 0;
};

/// Collects a schedule and puts it in order: in time linear in its size, as one
/// rank's part of a thousand ranks' schedule has millions of transfers.
class ScheduleBuilder final : public ScheduleSink {
 public:
  /// `demand` must outlive this.
  ScheduleBuilder(const Demand& demand, int strands, Pass pass, int steps);

  void add(const Transfer& transfer) override;
  void add(const Tile& tile) override;
  void add(const Retained& retained) override;

  /// Sorts everything and lists the blocks. The builder is used up.
  Schedule finish();

 private:
  void name_block(const BlockId& block);
  std::vector<Block> blocks() const;

  const Demand& demand_;
  int strands_;
  Schedule schedule_;
  std::vector<std::vector<Transfer>> transfers_;  // by post_step
  std::vector<std::vector<Tile>> tiles_;          // by step
  std::vector<std::size_t> first_;                // of each owner
  std::vector<bool> named_;                       // by owner, strand and part
};

}  // namespace ringweave::schedule
