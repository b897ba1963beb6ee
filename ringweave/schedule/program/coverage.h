// Which indices ranges have covered so far.
#pragma once

#include <vector>

#include "ringweave/base/range.h"

namespace ringweave::schedule {

class Coverage {
 public:
  /// The parts of `range` that are not covered, in order.
  std::vector<Range> missing(const Range& range) const;
  void add(const Range& range);

 private:
  std::vector<Range> covered_;  // ascending, with gaps between them
};

}  // namespace ringweave::schedule
