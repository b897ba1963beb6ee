#include "ringweave/schedule/strategy/walks.h"

#include <set>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave::schedule {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

void expect_walks_visit_all(const Walks& walks) {
  const int n = walks.ranks();
  for (int s = 0; s < walks.strands(); ++s) {
    for (Rank owner = 0; owner < n; ++owner) {
      std::set<Rank> visited;
      for (int t = 0; t < n; ++t) {
        visited.insert(walks.at(s, owner, t));
        ASSERT_EQ(walks.owner_at(s, walks.at(s, owner, t), t), owner);
      }
      ASSERT_EQ(walks.at(s, owner, 0), owner);
      ASSERT_EQ(visited.size(), n);
    }
  }
}

// Every step uses every link exactly once.
void expect_all_links_in_every_step(const Walks& walks) {
  const int n = walks.ranks();
  ASSERT_EQ(walks.strands(), n - 1);
  for (int t = 0; t + 1 < n; ++t) {
    std::set<std::pair<Rank, Rank>> links;
    for (int s = 0; s < n - 1; ++s) {
      for (Rank owner = 0; owner < n; ++owner) {
        links.emplace(walks.at(s, owner, t), walks.at(s, owner, t + 1));
      }
    }
    ASSERT_EQ(links.size(), n * (n - 1)) << "step " << t;
  }
}

TEST(Walks, RingBothWays) {
  const Walks ring = ring_walks(5, false);
  EXPECT_EQ(ring.at(0, 3, 4), 2);
  EXPECT_EQ(ring.owner_at(0, 2, 4), 3);
  const Walks reverse = ring_walks(5, true);
  EXPECT_EQ(reverse.at(0, 3, 4), 4);
  EXPECT_EQ(reverse.at(0, 0, 1), 4);
  EXPECT_EQ(ring_walks(1, true).at(0, 0, 0), 0);
  for (const int n : {1, 2, 3, 8}) {
    expect_walks_visit_all(ring_walks(n, false));
    expect_walks_visit_all(ring_walks(n, true));
  }
}

TEST(Walks, TimeVaryingUsesAllLinksInEveryStep) {
  for (const int n : {2, 3, 4, 5, 6, 7, 8, 9, 16, 25, 27, 49, 64}) {
    SCOPED_TRACE(n);
    const Walks walks = time_varying_walks(n);
    EXPECT_EQ(walks.kind(), Walks::Kind::walks);
    expect_walks_visit_all(walks);
    expect_all_links_in_every_step(walks);
  }
}

TEST(Walks, MultiRingUsesAllLinksInEveryStep) {
  for (int n = 2; n <= 20; ++n) {
    SCOPED_TRACE(n);
    const Walks walks = multi_ring_walks(n);
    EXPECT_EQ(walks.kind(),
              n == 4 || n == 6 ? Walks::Kind::walks : Walks::Kind::cycles);
    expect_walks_visit_all(walks);
    expect_all_links_in_every_step(walks);
  }
}

TEST(Walks, OneRankHasOneStrand) {
  EXPECT_EQ(multi_ring_walks(1).strands(), 1);
  EXPECT_EQ(time_varying_walks(1).strands(), 1);
}

TEST(Walks, RefuseWhatDoesNotExist) {
  EXPECT_THAT([] { time_varying_walks(10); },
              ThrowsMessage<NoSolution>(
                  HasSubstr("[time_varying_multi_ring] got 10 ranks; want 1, 6 "
                            "or a power of a prime")));
  EXPECT_THAT([] { time_varying_walks(1 << 15); },
              ThrowsMessage<InvalidArgument>(
                  HasSubstr("got 32768 ranks; want at most 4096")));
  EXPECT_THROW(multi_ring_walks(0), InvalidArgument);
  EXPECT_THROW(time_varying_walks(-1), InvalidArgument);
  EXPECT_THROW(ring_walks(0, false), InvalidArgument);
}

TEST(Walks, RefuseBadRingsAndOffsets) {
  using topology::Ring;
  EXPECT_THROW(Walks::along({}), InvalidArgument);
  EXPECT_THROW(Walks::along({Ring({0, 1}), Ring({0, 1, 2})}), InvalidArgument);
  const DigitGroup three(3, 1);
  EXPECT_THROW(Walks::translated(three, {}), InvalidArgument);
  EXPECT_THROW(Walks::translated(three, {{0, 1}}), InvalidArgument);
  EXPECT_THROW(Walks::translated(three, {{1, 0, 2}}), InvalidArgument);
  EXPECT_THROW(Walks::translated(three, {{0, 1, 1}}), InvalidArgument);
}

TEST(DecompositionJson, ListsCyclesAndWalks) {
  for (int n = 2; n <= 9; ++n) {
    SCOPED_TRACE(n);
    const bool cyclic = n != 4 && n != 6;
    const Json json = decomposition_json(n);
    EXPECT_EQ(json["ranks"], n);
    EXPECT_EQ(json["kind"], cyclic ? "cycles" : "walks");
    EXPECT_EQ(json["cycles"].size(), cyclic ? n - 1 : 0);
    ASSERT_EQ(json["walks"].size(), n - 1);
    for (int s = 0; s < n - 1; ++s) {
      ASSERT_EQ(json["walks"][s].size(), n);
      for (Rank owner = 0; owner < n; ++owner) {
        const Json& walk = json["walks"][s][owner];
        ASSERT_EQ(walk.size(), n);
        EXPECT_EQ(walk[0], owner);
        // A walk is its cycle, started at the owner.
        for (int t = 0; cyclic && t < n; ++t) {
          const Json& cycle = json["cycles"][s];
          int place = 0;
          while (cycle[place] != owner) ++place;
          EXPECT_EQ(walk[t], cycle[(place + t) % n]);
        }
      }
    }
  }
  EXPECT_THAT([] { decomposition_json(1); },
              ThrowsMessage<InvalidArgument>(
                  HasSubstr("[decompose] got 1 ranks; want at least 2")));
}

}  // namespace
}  // namespace ringweave::schedule
