// One rank's part of a schedule as it runs: messages, and steps of waits, posts
// and tiles. The executor runs it, the simulator and the cost model time it.
#pragma once

#include <vector>

#include "ringweave/schedule/schedule.h"

namespace ringweave::schedule {

/// One message: consecutive parts of one block strand, sent together.
struct Message {
  Transfer first;           ///< the transfer of its first part
  int parts = 1;            ///< parts first.block.part … + parts - 1
  std::int64_t offset = 0;  ///< of its first part in the packed block, in units
  std::int64_t size = 0;    ///< in units
};

/// One rank's steps, ready to run. Built once per (strategy, layout, mask) and
/// run for every layer.
struct Program {
  struct Step {
    std::vector<int> waits;     ///< indices into messages
    std::vector<int> receives;  ///< posted first
    std::vector<int> sends;
    std::vector<Tile> tiles;
  };
  Rank rank = 0;
  std::vector<Message> messages;
  std::vector<Step> steps;  ///< schedule.steps + 1; the last one only waits
};

/// Coalesces a rank's transfers into messages: those that agree in all but the
/// part, with consecutive part numbers. Sender and receiver do so alike.
Program make_program(const Schedule& part, Rank rank);

/// The programs of all ranks of a whole schedule, in O(transfers).
std::vector<Program> make_programs(const Schedule& schedule);

}  // namespace ringweave::schedule
