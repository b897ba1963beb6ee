// The bytes of a strided tensor, as rows of equal width.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace ringweave::device::simulated {

/// `count` rows of `width` bytes, `pitch` bytes from one's start to the next's.
/// Offsets count from the start of the tensor's storage.
struct ByteRows {
  std::int64_t begin = 0;
  std::int64_t width = 0;  ///< 0: no bytes at all
  std::int64_t count = 1;
  std::int64_t pitch = 0;  ///< ≥ width if count > 1

  std::int64_t end() const { return begin + (count - 1) * pitch + width; }
  bool operator==(const ByteRows&) const = default;
};

/// The first `size` bytes.
inline ByteRows first_bytes(std::size_t size) {
  return {.width = static_cast<std::int64_t>(size)};
}

/// The bytes of a view: exact for up to two levels of strides, such as slots,
/// rows, columns and steps. For more, all from the first byte to the last.
ByteRows bytes_of(const at::Tensor& tensor);

/// O(rows of the one that has fewer).
bool overlap(const ByteRows& a, const ByteRows& b);

/// Whether all of `inner` is in `outer`. False also where it would take a
/// closer look to see: both have several rows, and differ.
bool covers(const ByteRows& outer, const ByteRows& inner);

}  // namespace ringweave::device::simulated
