#include "ringweave/topology/ring.h"

#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave::topology {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(Ring, FollowsItsOrderBothWays) {
  const Ring ring({2, 0, 3, 1});
  EXPECT_EQ(ring.size(), 4);
  EXPECT_EQ(ring.after(2, 0), 2);
  EXPECT_EQ(ring.after(2, 1), 0);
  EXPECT_EQ(ring.after(1, 1), 2);
  EXPECT_EQ(ring.after(2, -1), 1);
  EXPECT_EQ(ring.after(3, 6), 2);
  EXPECT_EQ(ring.after(3, -7), 1);
}

TEST(Ring, TakesHopsOfAnySize) {
  const Ring ring({1, 2, 0});
  const int most = std::numeric_limits<int>::max();   // 1 mod 3
  const int least = std::numeric_limits<int>::min();  // -2 mod 3
  EXPECT_EQ(ring.after(1, most), 2);
  EXPECT_EQ(ring.after(1, least), 2);
}

TEST(Ring, OfOneRankStays) { EXPECT_EQ(Ring({0}).after(0, 5), 0); }

TEST(Ring, RefusesWhatIsNoPermutation) {
  EXPECT_THAT([] { Ring({}); },
              ThrowsMessage<InvalidArgument>(HasSubstr("[ring] got no ranks")));
  EXPECT_THAT(
      [] {
        Ring({0, 2});
      },
      ThrowsMessage<InvalidArgument>(
          HasSubstr("got rank 2 in an order of 2 ranks")));
  EXPECT_THAT(
      [] {
        Ring({0, -1});
      },
      ThrowsMessage<InvalidArgument>(HasSubstr("got rank -1")));
  EXPECT_THAT(
      [] {
        Ring({0, 1, 1});
      },
      ThrowsMessage<InvalidArgument>(HasSubstr("got rank 1 twice")));
}

TEST(Ring, RefusesForeignRanks) {
  EXPECT_THROW(Ring({0, 1}).after(2, 1), InvalidArgument);
  EXPECT_THROW(Ring({0, 1}).after(-1, 1), InvalidArgument);
}

}  // namespace
}  // namespace ringweave::topology
