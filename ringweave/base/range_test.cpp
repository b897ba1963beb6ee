#include "ringweave/base/range.h"

#include <gtest/gtest.h>

namespace ringweave {
namespace {

TEST(Range, SizeOfAReversedRangeIsZero) {
  EXPECT_EQ((Range{3, 7}).size(), 4);
  EXPECT_EQ((Range{7, 3}).size(), 0);
  EXPECT_TRUE((Range{7, 3}).empty());
  EXPECT_TRUE((Range{5, 5}).empty());
  EXPECT_FALSE((Range{5, 6}).empty());
}

TEST(Range, IntersectionKeepsTheCommonPart) {
  EXPECT_EQ(intersect({0, 5}, {3, 9}), (Range{3, 5}));
  EXPECT_EQ(intersect({2, 3}, {0, 9}), (Range{2, 3}));
  EXPECT_TRUE(intersect({0, 3}, {3, 6}).empty());
  EXPECT_TRUE(intersect({0, 2}, {5, 6}).empty());
}

TEST(Range, PiecesTileTheWholeInOrderAndDifferByAtMostOne) {
  for (const std::int64_t begin : {0, 11}) {
    for (const std::int64_t length : {0, 1, 2, 7, 64, 101}) {
      for (const std::int64_t pieces : {1, 2, 3, 5, 8, 13}) {
        const Range whole{begin, begin + length};
        std::int64_t at = whole.begin;
        for (std::int64_t i = 0; i < pieces; ++i) {
          const Range piece = cut(whole, i, pieces);
          EXPECT_EQ(piece.begin, at);
          EXPECT_GE(piece.size(), length / pieces);
          EXPECT_LE(piece.size(), length / pieces + 1);
          at = piece.end;
        }
        EXPECT_EQ(at, whole.end);
      }
    }
  }
}

}  // namespace
}  // namespace ringweave
