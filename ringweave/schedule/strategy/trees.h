// Explicit trees along which blocks travel, for machines without a regular
// form.
//
// A shard is cut into strands; each strand of each owner travels on a tree of
// its own, from the owner to every other rank. planner/search/synthesis.h makes
// them for a topology, schedule/strategy/tree_schedule.h turns them into
// schedules.
#pragma once

#include <string>
#include <vector>

#include "ringweave/base/json.h"
#include "ringweave/base/range.h"

namespace ringweave::schedule {

/// A block is sent in `step`, and is there in step + 1.
struct Hop {
  Rank from = 0;
  Rank to = 0;
  int step = 0;
  friend bool operator==(const Hop&, const Hop&) = default;
};

struct Trees {
  int ranks = 1;
  int strands = 1;
  int steps = 0;  ///< one more than the last hop's; 0 if there is none
  /// [owner · strands + strand]: ranks - 1 hops in order of steps, each rank
  /// but the owner the `to` of one; `from` is the owner or has had the block
  /// before.
  std::vector<std::vector<Hop>> hops;
  friend bool operator==(const Trees&, const Trees&) = default;
};

/// Throws InvalidArgument naming the first hop that is missing, doubled or
/// impossible.
void check(const Trees& trees);

/// {"ranks", "strands", "steps", "hops": [owner · strands + strand][hop] of
/// [from, to, step]}; from_json checks. `path` stands in errors.
Json to_json(const Trees& trees);
Trees trees_from_json(const Json& json, const std::string& path);

}  // namespace ringweave::schedule
