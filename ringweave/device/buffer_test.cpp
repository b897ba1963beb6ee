#include "ringweave/device/buffer.h"

#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave::device {
namespace {

TEST(Buffer, SlicesShareTheOwner) {
  Buffer whole = allocate_buffer(100);
  whole.data[30] = std::byte{7};
  const Buffer slice = whole.slice(10, 50).slice(20, 30);
  EXPECT_EQ(slice.data, whole.data + 30);
  EXPECT_EQ(slice.size, 30u);
  EXPECT_EQ(slice.device, Device{});
  whole = {};
  EXPECT_EQ(slice.owner.use_count(), 1);
  EXPECT_EQ(slice.data[0], std::byte{7});
}

TEST(Buffer, SlicesLieWithin) {
  const Buffer buffer = allocate_buffer(100);
  EXPECT_TRUE(buffer.slice(100, 0).empty());
  EXPECT_THROW(buffer.slice(101, 0), InternalError);
  EXPECT_THROW(buffer.slice(60, 41), InternalError);
  EXPECT_THROW(buffer.slice(1, static_cast<std::size_t>(-1)), InternalError);
}

TEST(Buffer, AllocatesAlignedMemory) {
  for (const std::size_t bytes : {0, 1, 63, 64, 1000}) {
    const Buffer buffer = allocate_buffer(bytes);
    EXPECT_EQ(buffer.size, bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data) % kBufferAlignment,
              0u);
  }
}

TEST(Buffer, BorrowsWhatTheCallerKeeps) {
  std::vector<std::int64_t> values(3);
  const Buffer buffer = borrowed(std::span(values));
  EXPECT_EQ(buffer.data, reinterpret_cast<std::byte*>(values.data()));
  EXPECT_EQ(buffer.size, 24u);
  EXPECT_EQ(buffer.owner, nullptr);
}

}  // namespace
}  // namespace ringweave::device
