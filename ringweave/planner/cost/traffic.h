// What a pass asks of ranks and links, step by step: what is left of a schedule
// when blocks and slots are forgotten. The cost model (cost.h) times it.
//
// Collected from what a generator emits, so no whole schedule is ever built or
// sorted.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "ringweave/planner/cost/workload.h"
#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/schedule.h"
#include "ringweave/schedule/schedule_builder.h"

namespace ringweave::planner {

/// All messages from one rank to another that are posted in one step and waited
/// for in one step. They count as one transfer with the weight of `messages`.
struct Flow {
  Rank from = 0;
  Rank to = 0;
  int post_step = 0;
  int wait_step = 0;
  int messages = 0;
  double bytes = 0;
};

struct Traffic {
  int ranks = 1;
  int steps = 0;
  std::vector<Flow> flows;             ///< by (post_step, from, to)
  std::vector<double> step_seconds;    ///< of computing: [step · ranks + rank]
  std::vector<double> slot_bytes;      ///< per rank, all slots of the pass
  std::vector<double> retained_bytes;  ///< per rank, kept for backward

  double compute_seconds(Rank rank) const;
};

/// Takes a pass's transfers, tiles and retained parts in any order, but the
/// parts of one message in ascending order.
class TrafficCollector final : public schedule::ScheduleSink {
 public:
  /// Both must outlive this. `workload.unit_bytes` names every payload that
  /// comes.
  TrafficCollector(const schedule::Demand& demand, int strands, int steps,
                   const Workload& workload);

  void add(const schedule::Transfer& transfer) override;
  void add(const schedule::Tile& tile) override;
  void add(const schedule::Retained& retained) override;

  /// Sorts the flows. The collector is used up.
  Traffic finish();

 private:
  int& newest_flow(const schedule::Transfer& transfer);
  std::size_t part_of(const schedule::BlockId& block) const;
  std::uint64_t key_of(Rank rank, std::size_t part) const {
    return static_cast<std::uint64_t>(rank) * sizes_.size() + part;
  }
  double extent(const schedule::BlockId& block) const;
  double size(const schedule::BlockId& block) const;
  void hold(Rank rank, schedule::Payload payload, int slot, double extent);
  void hold_arrivals();

  const Workload& workload_;
  int strands_;
  Traffic traffic_;
  std::vector<std::size_t> first_part_;  // of each owner, in sizes_
  std::vector<std::int64_t> sizes_;  // [first_part_ + strand · parts + part]
  double bytes_of_[schedule::kPayloads] = {};  // per unit, by payload
  // By flow: the transfer that it took last; the next may go on its message.
  std::vector<schedule::Transfer> last_;
  // By (post step, from, to): 1 + the newest flow, or 0. The table takes the
  // place of the map where it isn't too large.
  std::unordered_map<std::uint64_t, int> newest_;
  std::vector<int> newest_table_;
  // [payload][rank][slot]: the largest extent.
  std::vector<std::vector<double>> slots_[schedule::kPayloads];
  // Keys and values that arrive lie in a slot unless they turn out to be
  // retained, which need not be known by then.
  struct Arrival {
    Rank rank = 0;
    int slot = 0;
    std::size_t part = 0;  // in sizes_
    double extent = 0;
  };
  std::vector<Arrival> arrivals_;
  std::unordered_set<std::uint64_t> retained_;  // (rank, part in sizes_)
};

/// The same from a schedule that exists, such as one from a file.
Traffic traffic_of(const schedule::Schedule& schedule,
                   const schedule::Demand& demand, int strands,
                   const Workload& workload);

}  // namespace ringweave::planner
