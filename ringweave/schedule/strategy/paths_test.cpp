#include "ringweave/schedule/strategy/paths.h"

#include <map>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/schedule/strategy/strategy.h"

namespace ringweave::schedule {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(Paths, TwoNodesOfFourAreSpelledOut) {
  const auto rings = path_rings(2, 4);
  ASSERT_EQ(rings.size(), 4);
  EXPECT_EQ(rings[0].order(), (std::vector<Rank>{0, 1, 3, 2, 6, 7, 5, 4}));
  EXPECT_EQ(rings[1].order(), (std::vector<Rank>{1, 2, 0, 3, 7, 4, 6, 5}));
}

TEST(Paths, UseEveryLinkInsideOnceAndEveryRailOnce) {
  for (int m = 2; m <= 16; m += 2) {
    for (int u = 2; u <= 5; ++u) {
      std::map<std::pair<Rank, Rank>, int> uses;
      int across = 0;
      for (const topology::Ring& ring : path_rings(u, m)) {
        ASSERT_EQ(ring.size(), u * m);
        for (Rank rank = 0; rank < u * m; ++rank) {
          const Rank next = ring.after(rank, 1);
          EXPECT_EQ((++uses[{rank, next}]), 1);
          if (rank / m == next / m) continue;
          ++across;
          EXPECT_EQ(next / m, (rank / m + 1) % u);
          if (u % 2 == 0 || next / m != 0) {
            EXPECT_EQ(next % m, rank % m);
          }
        }
      }
      EXPECT_EQ(across, u * m);
      EXPECT_EQ(uses.size(), u * m * (m - 1) + u * m);
    }
  }
}

// C: units of a shard.
TEST(Paths, LoadNicsAndInnerLinksAlike) {
  for (int m = 2; m <= 6; m += 2) {
    for (int u = 2; u <= 5; ++u) {
      const int n = u * m;
      const Layout layout = Layout::contiguous(n * m, n);
      const AttentionDemand demand(layout, layout, Mask::full());
      const Strategy strategy{.kind = StrategyKind::paths, .nodes = u};
      for (const auto& [link, units] :
           link_traffic(whole(strategy, demand, Pass::forward))) {
        EXPECT_EQ(units.at(Payload::kv), n - 1);  // (n-1) · C / m, C = m
      }
    }
  }
}

TEST(Paths, SayWhyNot) {
  EXPECT_THAT([] { path_rings(2, 3); },
              ThrowsMessage<NoSolution>(HasSubstr("2 nodes of 3 ranks")));
  EXPECT_THROW(path_rings(1, 4), InvalidArgument);
  EXPECT_THROW(path_rings(2, 0), InvalidArgument);
}

}  // namespace
}  // namespace ringweave::schedule
