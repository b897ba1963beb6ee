#include "ringweave/schedule/program/coverage.h"

#include <algorithm>

namespace ringweave::schedule {

std::vector<Range> Coverage::missing(const Range& range) const {
  std::vector<Range> missing;
  Range rest = range;
  auto next = std::ranges::upper_bound(covered_, range.begin, {}, &Range::end);
  for (; next != covered_.end() && next->begin < range.end; ++next) {
    if (rest.begin < next->begin) missing.push_back({rest.begin, next->begin});
    rest.begin = next->end;
  }
  if (!rest.empty()) missing.push_back(rest);
  return missing;
}

void Coverage::add(const Range& range) {
  if (range.empty()) return;
  // Those that touch the range become one with it.
  const auto first =
      std::ranges::lower_bound(covered_, range.begin, {}, &Range::end);
  const auto last =
      std::ranges::upper_bound(covered_, range.end, {}, &Range::begin);
  Range joined = range;
  if (first < last) {
    joined.begin = std::min(joined.begin, first->begin);
    joined.end = std::max(joined.end, std::prev(last)->end);
  }
  const auto place = covered_.erase(first, std::max(first, last));
  covered_.insert(place, joined);
}

}  // namespace ringweave::schedule
