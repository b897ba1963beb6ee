// One rank's part of a schedule as it runs, without its memory: messages, and
// steps of waits, posts and tiles. The cost model and the simulator time it;
// program.h adds where everything lies.
#pragma once

#include <functional>
#include <vector>

#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/schedule.h"

namespace ringweave::schedule {

/// One message: consecutive parts of one block strand, sent together.
struct Message {
  Transfer first;         ///< the transfer of its first part
  int parts = 1;          ///< parts first.block.part … + parts - 1
  std::int64_t size = 0;  ///< in units
};

/// One rank's steps.
struct Outline {
  struct Step {
    std::vector<int> waits;     ///< indices into messages; arrivals come first
    std::vector<int> receives;  ///< posted first
    std::vector<int> sends;
    std::vector<Tile> tiles;
  };
  Rank rank = 0;
  std::vector<Message> messages;
  std::vector<Step> steps;  ///< schedule.steps + 1; the last one only waits
};

/// Whether a part of a block and the next one lie side by side on a rank
/// (Demand::side_by_side).
using SideBySide = std::function<bool(Rank, const BlockId&)>;

/// Asks the demand, which must outlive the result, and remembers its answers.
SideBySide side_by_side(const Demand& demand, int strands);

/// Joins a rank's transfers into messages. Transfers share a message if they
/// differ only in the part, their parts follow one another, and these lie side
/// by side on both ranks. Sender and receiver find the same messages. An empty
/// `side_by_side` means that all parts lie side by side.
Outline make_outline(const Schedule& part, Rank rank,
                     const SideBySide& side_by_side);

/// The outlines of all ranks of a whole schedule, in O(transfers).
std::vector<Outline> make_outlines(const Schedule& schedule,
                                   const SideBySide& side_by_side);

/// Whether two transfers that are posted by the same rank to the same rank in
/// the same step go on one message. `a` is the one of the part before.
bool share_message(const Transfer& a, const Transfer& b,
                   const SideBySide& side_by_side);

}  // namespace ringweave::schedule
