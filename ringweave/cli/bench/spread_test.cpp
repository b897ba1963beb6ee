#include "ringweave/cli/bench/spread.h"

#include <gtest/gtest.h>

namespace ringweave::cli {
namespace {

TEST(Spread, MedianOfOddAndEvenCounts) {
  EXPECT_EQ(spread({3, 1, 2}).median, 2);
  EXPECT_EQ(spread({4, 1, 3, 2}).median, 2.5);
  EXPECT_EQ(spread({4, 1, 3, 2}).least, 1);
  EXPECT_EQ(spread({4, 1, 3, 2}).most, 4);
}

}  // namespace
}  // namespace ringweave::cli
