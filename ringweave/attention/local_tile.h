// Cuts (queries, keys) of one rank into pieces that a plain kernel can do.
//
// A kernel knows three kinds of work: all keys for all rows, a square causal
// triangle, and an additive mask. From the row intervals of a mask this finds
// few and large pieces of the first two kinds, and leaves narrow bands for the
// third. No row of a piece is without keys, so no kernel sees an empty softmax.
#pragma once

#include <span>
#include <vector>

#include "ringweave/base/range.h"

namespace ringweave::attention {

struct LocalTile {
  enum class Kind {
    full,    ///< every row sees every key
    causal,  ///< square; row i sees keys 0 … i
    masked,  ///< row i sees intervals[i]
  };
  Kind kind = Kind::full;
  Range rows;                    ///< of the rank's queries
  Range keys;                    ///< of the block part
  std::vector<Range> intervals;  ///< masked: per row, relative to keys.begin
};

/// `intervals[i]`: the keys that row i sees. The tiles cover each visible pair
/// exactly once.
std::vector<LocalTile> local_tiles(std::span<const Range> intervals);

}  // namespace ringweave::attention
