// What running a schedule costs besides its links, and when things happen: the
// model that the cost model (planner/cost/cost.h) and the simulator (sim/)
// share.
//
// A rank runs its Outline (schedule/program/outline.h) on its own clock; there
// is no barrier. In each step it
//   1. waits for the messages of the step's waits, its own sends among them;
//   2. posts: receives at once, then sends one after another, each of which
//      takes message_overhead_seconds of the rank's time;
//   3. computes the step's tiles, which lie side by side: few kernel calls do
//      them, whatever their number.
// A message moves once both sides have posted it. It takes the latencies of its
// route's links, then moves at a rate that all messages under way share
// max-min fairly on every link of their routes.
#pragma once

#include <functional>

#include "ringweave/schedule/program/outline.h"
#include "ringweave/schedule/schedule.h"

namespace ringweave::planner {

struct Workload {
  schedule::UnitBytes unit_bytes;  ///< of every payload of the schedule
  double message_overhead_seconds = 0;
  /// What one tile is of its step's work; called from one thread. Absent: 0.
  std::function<double(const schedule::Tile&)> tile_work = {};
  /// Seconds of computing a step's tiles, from the sum of their work. Absent:
  /// the sum itself.
  std::function<double(double work)> step_seconds = {};
  /// Decides with what a part shares its message (outline.h).
  schedule::SideBySide side_by_side = {};

  double seconds(double work) const {
    return step_seconds ? step_seconds(work) : work;
  }
};

}  // namespace ringweave::planner
