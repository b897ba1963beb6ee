#include "ringweave/device/simulated/byte_ranges.h"

#include <algorithm>
#include <vector>

namespace ringweave::device::simulated {
namespace {

struct Level {
  std::int64_t stride;  ///< in bytes
  std::int64_t size;

  bool operator<(const Level& other) const { return stride < other.stride; }
};

/// The dimensions that move through memory, innermost first.
std::vector<Level> levels_of(const at::Tensor& tensor) {
  const auto item = static_cast<std::int64_t>(tensor.itemsize());
  std::vector<Level> levels;
  for (std::int64_t i = 0; i < tensor.dim(); ++i) {
    if (tensor.size(i) > 1 && tensor.stride(i) != 0) {
      levels.push_back({tensor.stride(i) * item, tensor.size(i)});
    }
  }
  std::sort(levels.begin(), levels.end());
  return levels;
}

}  // namespace

ByteRows bytes_of(const at::Tensor& tensor) {
  const auto item = static_cast<std::int64_t>(tensor.itemsize());
  ByteRows rows{.begin = tensor.storage_offset() * item};
  if (tensor.numel() == 0) return rows;
  rows.width = item;
  const std::vector<Level> levels = levels_of(tensor);
  auto at = levels.begin();
  for (; at != levels.end() && at->stride <= rows.width; ++at) {
    rows.width += (at->size - 1) * at->stride;  // no gap: a longer row
  }
  if (at != levels.end()) {
    rows.pitch = at->stride;
    rows.count = at->size;
    ++at;
  }
  for (; at != levels.end() && at->stride == rows.pitch * rows.count; ++at) {
    rows.count *= at->size;  // goes on in the same step: more rows
  }
  if (at == levels.end()) return rows;
  ByteRows span{.begin = rows.begin, .width = rows.end() - rows.begin};
  for (; at != levels.end(); ++at) span.width += (at->size - 1) * at->stride;
  return span;
}

bool overlap(const ByteRows& a, const ByteRows& b) {
  if (a.width == 0 || b.width == 0) return false;
  if (a.end() <= b.begin || b.end() <= a.begin) return false;
  if (a.count > b.count) return overlap(b, a);
  if (b.count == 1) return true;
  for (std::int64_t i = 0; i < a.count; ++i) {
    const std::int64_t begin = a.begin + i * a.pitch;
    // The first row of b that ends after this one of a begins.
    const std::int64_t past = begin - b.begin - b.width;
    const std::int64_t row = past < 0 ? 0 : past / b.pitch + 1;
    if (row < b.count && b.begin + row * b.pitch < begin + a.width) return true;
  }
  return false;
}

bool covers(const ByteRows& outer, const ByteRows& inner) {
  if (outer.count > 1) return outer == inner;
  return outer.begin <= inner.begin && inner.end() <= outer.end();
}

}  // namespace ringweave::device::simulated
