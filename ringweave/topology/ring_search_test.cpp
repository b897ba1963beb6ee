#include "ringweave/topology/ring_search.h"

#include <map>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/topology/builtin.h"

namespace ringweave::topology {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// Every hop takes its route; no link, and no capacity that links share, carries
// more than it has.
void expect_disjoint(const Topology& topology, const RingSet& set) {
  std::map<int, double> carried;  // links from 0, shared capacities below
  for (const Ring& ring : set.rings) {
    ASSERT_EQ(ring.size(), topology.ranks());
    for (Rank rank = 0; rank < ring.size(); ++rank) {
      const std::vector<int> route = topology.route(rank, ring.after(rank, 1));
      ASSERT_FALSE(route.empty());
      for (const int link : route) {
        const int shared = topology.links()[link].shared;
        carried[shared < 0 ? link : -1 - shared] += set.bytes_per_second;
        const int end = topology.links()[link].to;
        ASSERT_TRUE(end >= topology.ranks() || end == ring.after(rank, 1))
            << "a hop through a rank";
      }
    }
  }
  for (std::size_t i = 0; i < topology.links().size(); ++i) {
    const Link& link = topology.links()[i];
    const int key = link.shared < 0 ? static_cast<int>(i) : -1 - link.shared;
    EXPECT_LE(carried[key], link.bytes_per_second * (1 + 1e-6))
        << topology.name() << ", link " << i;
  }
  EXPECT_LE(set.rings.size(), set.at_most);
}

struct Case {
  std::string name;
  int rings;
  double bytes_per_second;
};

class DisjointRings : public ::testing::TestWithParam<Case> {};

TEST_P(DisjointRings, AreAsManyAsCanBe) {
  const Topology topology = builtin(GetParam().name);
  const RingSet set = disjoint_rings(topology);
  EXPECT_EQ(set.rings.size(), GetParam().rings);
  EXPECT_DOUBLE_EQ(set.bytes_per_second, GetParam().bytes_per_second);
  EXPECT_TRUE(set.is_maximum());
  expect_disjoint(topology, set);
}

// 4 and 6 ranks have no n - 1 rings, but twice as many of half the rate.
INSTANTIATE_TEST_SUITE_P(
    Builtins, DisjointRings,
    ::testing::Values(
        Case{"mesh:ranks=2,rate=1e9", 1, 1e9},
        Case{"mesh:ranks=3,rate=1e9", 2, 1e9},
        Case{"mesh:ranks=4,rate=1e9", 6, 5e8},
        Case{"mesh:ranks=6,rate=1e9", 10, 5e8},
        Case{"mesh:ranks=8,rate=1e9", 7, 1e9}, Case{"ring:ranks=2", 1, 1e9},
        Case{"ring:ranks=7", 2, 1e9}, Case{"switch:ranks=5", 1, 1e9},
        Case{"torus:dimensions=4x4", 4, 1e9},
        Case{"torus:dimensions=3x5", 4, 1e9},
        Case{"torus:dimensions=8x8", 4, 1e9},
        Case{"torus:dimensions=4x4x4", 6, 1e9}, Case{"dgx-1", 6, 25e9},
        Case{"dgx-h100:nodes=2", 8, 50e9},
        Case{"two_level:nodes=2,ranks=8,rate=4e9,nic=1e9", 4, 1e9}));

TEST(RingSearch, IsTheSameEverywhere) {
  const RingSet a = disjoint_rings(builtin("torus:dimensions=4x4"));
  const RingSet b = disjoint_rings(builtin("torus:dimensions=4x4"));
  ASSERT_EQ(a.rings.size(), b.rings.size());
  for (std::size_t i = 0; i < a.rings.size(); ++i) {
    EXPECT_EQ(a.rings[i].order(), b.rings[i].order());
  }
}

Topology mesh_with_changed_link(int ranks, double rate) {
  Topology::Spec spec;
  spec.name = "changed mesh";
  for (Rank rank = 0; rank < ranks; ++rank) {
    spec.vertices.push_back({VertexKind::rank, "r" + std::to_string(rank), 0});
  }
  for (Rank from = 0; from < ranks; ++from) {
    for (Rank to = 0; to < ranks; ++to) {
      if (from == to) continue;
      const double own = from == 0 && to == 1 ? rate : 1e9;
      if (own > 0) spec.links.push_back({from, to, own, 0, "link"});
    }
  }
  return Topology(std::move(spec));
}

TEST(RingSearch, LosesOneRingToADeadLink) {
  const Topology topology = mesh_with_changed_link(8, 0);
  const RingSet set = disjoint_rings(topology);
  EXPECT_EQ(set.rings.size(), 6);
  EXPECT_TRUE(set.is_maximum());
  expect_disjoint(topology, set);
}

TEST(RingSearch, UsesHalfOfASlowLinkByRingsOfHalfTheRate) {
  const Topology topology = mesh_with_changed_link(8, 0.5e9);
  const RingSet set = disjoint_rings(topology);
  EXPECT_GE(set.bytes_per_second * set.rings.size(), 6e9);
  expect_disjoint(topology, set);
}

TEST(RingSearch, KeepsToItsWordOnRandomTopologies) {
  std::mt19937_64 random(3);
  int maximum = 0;
  constexpr int kCases = 60;
  for (int i = 0; i < kCases; ++i) {
    const int ranks = 2 + static_cast<int>(random() % 9);
    Topology::Spec spec;
    spec.name = "random";
    for (Rank rank = 0; rank < ranks; ++rank) {
      spec.vertices.push_back(
          {VertexKind::rank, "r" + std::to_string(rank), 0});
    }
    for (Rank from = 0; from < ranks; ++from) {
      for (Rank to = 0; to < ranks; ++to) {
        if (from == to || (to != (from + 1) % ranks && random() % 2 == 0)) {
          continue;
        }
        spec.links.push_back(
            {from, to, 1e9 * (1 + static_cast<double>(random() % 3)), 0, "l"});
      }
    }
    const Topology topology(std::move(spec));
    const RingSet set = disjoint_rings(topology);
    expect_disjoint(topology, set);
    maximum += set.is_maximum();
  }
  // Cuts and degrees are not the whole truth, but nearly.
  EXPECT_GE(maximum, kCases / 2);
}

// A cable of half duplex carries one of the two directions.
TEST(RingSearch, CountsSharedCapacityOnce) {
  Topology::Spec spec;
  spec.name = "half duplex";
  for (Rank rank = 0; rank < 3; ++rank) {
    spec.vertices.push_back({VertexKind::rank, "r" + std::to_string(rank), 0});
  }
  spec.links = {{0, 1, 1, 0, "l", 0}, {1, 0, 1, 0, "l", 0},
                {1, 2, 1, 0, "l", 1}, {2, 1, 1, 0, "l", 1},
                {2, 0, 1, 0, "l", 2}, {0, 2, 1, 0, "l", 2}};
  const Topology topology(std::move(spec));
  const RingSet set = disjoint_rings(topology);
  EXPECT_DOUBLE_EQ(set.bytes_per_second * set.rings.size(), 1);
  expect_disjoint(topology, set);
}

TEST(RingSearch, OfOneRankIsEmpty) {
  const RingSet set = disjoint_rings(builtin("mesh:ranks=1"));
  EXPECT_TRUE(set.rings.empty());
  EXPECT_TRUE(set.is_maximum());
}

TEST(RingSearch, RefusesWhatHasNoRing) {
  // A star: every route between leaves passes through the rank in the middle.
  Topology::Spec star;
  star.name = "star";
  for (Rank rank = 0; rank < 4; ++rank) {
    star.vertices.push_back({VertexKind::rank, "r" + std::to_string(rank), 0});
    if (rank == 0) continue;
    star.links.push_back({0, rank, 1, 0, "l"});
    star.links.push_back({rank, 0, 1, 0, "l"});
  }
  EXPECT_THAT([&] { disjoint_rings(Topology(star)); },
              ThrowsMessage<NoSolution>(HasSubstr("ranks of star")));
  star.links.resize(4);
  EXPECT_THAT([&] { disjoint_rings(Topology(star)); },
              ThrowsMessage<InvalidArgument>(HasSubstr("no path from")));
  EXPECT_THAT([&] { disjoint_rings(builtin("ring:ranks=200")); },
              ThrowsMessage<InvalidArgument>(HasSubstr("got 200 ranks")));
}

}  // namespace
}  // namespace ringweave::topology
