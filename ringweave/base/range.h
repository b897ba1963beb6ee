// Ranks, half-open ranges, and the one rule by which ranges are cut.
#pragma once

#include <algorithm>
#include <cstdint>

namespace ringweave {

/// Index of a rank in its group, 0 … size - 1.
using Rank = int;

/// The integers begin … end - 1; empty when end <= begin.
struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  std::int64_t size() const { return end > begin ? end - begin : 0; }
  bool empty() const { return end <= begin; }
  friend bool operator==(const Range&, const Range&) = default;
};

inline Range intersect(const Range& a, const Range& b) {
  return {std::max(a.begin, b.begin), std::min(a.end, b.end)};
}

/// The part of a range that lies within bounds; {0, 0} if none does.
inline Range clipped(const Range& range, const Range& bounds) {
  const Range inside = intersect(range, bounds);
  return inside.empty() ? Range{} : inside;
}

inline Range moved(const Range& range, std::int64_t by) {
  return {range.begin + by, range.end + by};
}

/// ⌊a / b⌋ for b > 0 and any a.
inline std::int64_t floor_div(std::int64_t a, std::int64_t b) {
  return a >= 0 ? a / b : -((-a + b - 1) / b);
}

/// ⌈a / b⌉ for b > 0 and any a.
inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return -floor_div(-a, b);
}

/// Piece `i` of `pieces` of `whole`: [a + ⌊L·i/k⌋, a + ⌊L·(i+1)/k⌋). The pieces
/// tile the whole in order and their sizes differ by at most one.
inline Range cut(const Range& whole, std::int64_t i, std::int64_t pieces) {
  const std::int64_t length = whole.size();
  return {whole.begin + length * i / pieces,
          whole.begin + length * (i + 1) / pieces};
}

}  // namespace ringweave
