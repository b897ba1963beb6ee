#include "ringweave/device/simulated/byte_ranges.h"

#include <algorithm>
#include <set>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace ringweave::device::simulated {
namespace {

using ByteSet = std::set<std::int64_t>;

/// Those of a tensor's elements, one by one.
ByteSet bytes_of_elements(const at::Tensor& tensor) {
  const auto item = static_cast<std::int64_t>(tensor.itemsize());
  ByteSet bytes;
  for (std::int64_t n = 0; n < tensor.numel(); ++n) {
    std::int64_t left = n;
    std::int64_t offset = tensor.storage_offset();
    for (std::int64_t i = tensor.dim() - 1; i >= 0; --i) {
      offset += left % tensor.size(i) * tensor.stride(i);
      left /= tensor.size(i);
    }
    for (std::int64_t i = 0; i < item; ++i) bytes.insert(offset * item + i);
  }
  return bytes;
}

ByteSet bytes_of_rows(const ByteRows& rows) {
  ByteSet bytes;
  for (std::int64_t row = 0; row < rows.count; ++row) {
    for (std::int64_t i = 0; i < rows.width; ++i) {
      bytes.insert(rows.begin + row * rows.pitch + i);
    }
  }
  return bytes;
}

bool share(const ByteSet& a, const ByteSet& b) {
  return std::any_of(a.begin(), a.end(),
                     [&](std::int64_t byte) { return b.contains(byte); });
}

bool contains(const ByteSet& outer, const ByteSet& inner) {
  return std::includes(outer.begin(), outer.end(), inner.begin(), inner.end());
}

/// Views of an (8, 12) matrix that two levels of strides describe.
std::vector<at::Tensor> views_of_a_matrix() {
  const at::Tensor x = at::zeros({8, 12}, at::kShort);
  return {x,
          x[3],
          x.slice(0, 2, 5),
          x.slice(0, 1, 8, 3),
          x.slice(1, 0, 6),
          x.slice(1, 6),
          x.slice(1, 5, 8),
          x.slice(1, 0, 12, 2),
          x.slice(1, 1, 12, 2),
          x.slice(1, 0, 12, 4),
          x.select(1, 7),
          x.t(),
          x.t().slice(0, 2, 4),
          x[2][5],
          x.slice(0, 4, 4),
          x.slice(0, 0, 1).expand({5, 12}),
          x.as_strided({3, 4}, {2, 1}, 7),
          x.view({2, 4, 3, 4}).slice(3, 1, 3),
          x.view({2, 4, 12}).select(1, 2)};
}

TEST(ByteRows, AreExactForTwoLevelsOfStrides) {
  for (const at::Tensor& view : views_of_a_matrix()) {
    EXPECT_EQ(bytes_of_rows(bytes_of(view)), bytes_of_elements(view))
        << view.sizes() << " strides " << view.strides();
  }
}

TEST(ByteRows, OverlapWhereTheyShareAByte) {
  for (const at::Tensor& a : views_of_a_matrix()) {
    for (const at::Tensor& b : views_of_a_matrix()) {
      EXPECT_EQ(overlap(bytes_of(a), bytes_of(b)),
                share(bytes_of_elements(a), bytes_of_elements(b)))
          << a.sizes() << a.strides() << " and " << b.sizes() << b.strides();
    }
  }
}

TEST(ByteRows, CoverOnlyWhatTheyContain) {
  for (const at::Tensor& a : views_of_a_matrix()) {
    for (const at::Tensor& b : views_of_a_matrix()) {
      const bool all = contains(bytes_of_elements(a), bytes_of_elements(b));
      const ByteRows outer = bytes_of(a);
      const ByteRows inner = bytes_of(b);
      if (covers(outer, inner)) {
        EXPECT_TRUE(all || inner.width == 0);
      }
      if (outer.count == 1 && inner.width > 0) {
        EXPECT_EQ(covers(outer, inner), all);
      }
    }
  }
}

TEST(ByteRows, OfMoreLevelsReachFromTheFirstByteToTheLast) {
  const at::Tensor x = at::zeros({2, 4, 4, 4}, at::kByte);
  const ByteRows rows = bytes_of(x.slice(1, 0, 2).slice(3, 0, 2));
  EXPECT_EQ(rows.begin, 0);
  EXPECT_EQ(rows.count, 1);
  EXPECT_EQ(rows.end(), x.stride(0) + x.stride(1) + 3 * x.stride(2) + 2);
}

}  // namespace
}  // namespace ringweave::device::simulated
