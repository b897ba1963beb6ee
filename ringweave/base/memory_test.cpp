#include "ringweave/base/memory.h"

#include <cstdint>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
  constexpr std::size_t kBytes = 64 << 20;
  if (!reset_peak_memory()) GTEST_SKIP() << "the kernel keeps the peak";
  const std::int64_t before = peak_memory();
  { const std::vector<char> block(kBytes, 'x'); }
  const std::int64_t with_block = peak_memory();
  EXPECT_GE(with_block, before + static_cast<std::int64_t>(kBytes / 2));
  reset_peak_memory();
  EXPECT_LE(peak_memory(), with_block);
}

}  // namespace
}  // namespace ringweave
