#include "ringweave/topology/decomposition.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave::topology {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// A Ring is a single cycle by construction, so n - 1 of them that together
// have n·(n-1) different links use every link exactly once.
TEST(LinkDisjointRings, UseEachLinkOnce) {
  for (int n = 2; n <= 64; ++n) {
    if (n == 4 || n == 6) continue;
    const std::vector<Ring> rings = link_disjoint_rings(n);
    ASSERT_EQ(rings.size(), n - 1) << n;
    std::set<std::pair<Rank, Rank>> links;
    for (const Ring& ring : rings) {
      ASSERT_EQ(ring.size(), n);
      for (Rank rank = 0; rank < n; ++rank) {
        links.emplace(rank, ring.after(rank, 1));
      }
    }
    ASSERT_EQ(links.size(), n * (n - 1)) << n;
  }
}

TEST(LinkDisjointRings, ManyRanks) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  const std::vector<int> sizes = {96, 97, 99, 128, 129, 130, 132};
#else
  const std::vector<int> sizes = {96,  97,  99,  128,  129, 130,
                                  132, 254, 256, 1023, 1024};
#endif
  for (const int n : sizes) {
    std::vector<char> used(static_cast<std::size_t>(n) * n, 0);
    for (const Ring& ring : link_disjoint_rings(n)) {
      ASSERT_EQ(ring.size(), n);
      for (Rank rank = 0; rank < n; ++rank) {
        used[rank * n + ring.after(rank, 1)] = 1;
      }
    }
    EXPECT_EQ(std::count(used.begin(), used.end(), 1), n * (n - 1)) << n;
  }
}

// Pinned: processes built by different compilers must agree.
TEST(LinkDisjointRings, AreTheSameEverywhere) {
  EXPECT_EQ(link_disjoint_rings(2)[0].order(), (std::vector<Rank>{0, 1}));
  EXPECT_EQ(link_disjoint_rings(3)[1].order(), (std::vector<Rank>{0, 2, 1}));
  const std::vector<Ring> rings = link_disjoint_rings(8);
  EXPECT_EQ(rings[0].order(), (std::vector<Rank>{0, 6, 2, 4, 1, 7, 3, 5}));
  EXPECT_EQ(rings[6].order(), (std::vector<Rank>{0, 7, 6, 5, 4, 3, 2, 1}));
  EXPECT_EQ(link_disjoint_rings(130)[128].after(0, 5), 36);
}

TEST(LinkDisjointRings, DoNotExistForFourAndSix) {
  EXPECT_THAT([] { link_disjoint_rings(4); },
              ThrowsMessage<NoSolution>(AllOf(HasSubstr("got 4 ranks"),
                                              HasSubstr("at most 2 of 3"))));
  EXPECT_THAT([] { link_disjoint_rings(6); },
              ThrowsMessage<NoSolution>(AllOf(HasSubstr("got 6 ranks"),
                                              HasSubstr("at most 4 of 5"))));
}

TEST(LinkDisjointRings, RefuseOtherNumbers) {
  for (const int n : {-3, 0, 1, kMaxDecomposedRanks + 1}) {
    EXPECT_THROW(link_disjoint_rings(n), InvalidArgument) << n;
  }
}

}  // namespace
}  // namespace ringweave::topology
