#include "ringweave/base/memory.h"

#include <cstdint>
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include "ringweave/base/error.h"

namespace ringweave {
namespace {

TEST(Memory, OnlyMoreThanThereIsIsRefused) {
  EXPECT_NO_THROW(require_memory(0, "[train] got a model"));
  EXPECT_NO_THROW(require_memory(1e6, "[train] got a model"));
  try {
    require_memory(1e30, "[train] got a model");
    ADD_FAILURE() << "no error";
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(),
                testing::StartsWith("[train] got a model that takes at least "
                                    "1e+21 GB; want at most "));
  }
}

TEST(Memory, ThePeakStaysUntilItIsReset) {
  if (!reset_peak_memory()) GTEST_SKIP() << "the kernel keeps the peak";
  constexpr std::size_t kBytes = 64 << 20;
  const std::int64_t before = peak_memory();
  // Not of the heap, which a sanitizer gives back later.
  void* block = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(block, MAP_FAILED);
  std::memset(block, 1, kBytes);
  ASSERT_EQ(munmap(block, kBytes), 0);
  const std::int64_t with_block = peak_memory();
  constexpr auto kHalf = static_cast<std::int64_t>(kBytes / 2);
  EXPECT_GE(with_block, before + kHalf);
  EXPECT_TRUE(reset_peak_memory());
  EXPECT_LE(peak_memory(), with_block - kHalf);
}

}  // namespace
}  // namespace ringweave
