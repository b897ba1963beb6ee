#include "ringweave/topology/lower_bound.h"

#include <algorithm>
#include <cmath>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/topology/builtin.h"

namespace ringweave::topology {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

DemandBytes full(int ranks, double bytes) {
  return DemandBytes(ranks, std::vector<double>(ranks, bytes));
}

// What the certificate says must be true of the topology it was found for.
void expect_proven(const Topology& topology, const DemandBytes& demand,
                   const LowerBound& bound) {
  std::vector<char> inside(topology.vertices(), 0);
  for (const int vertex : bound.inside) inside[vertex] = 1;
  ASSERT_FALSE(inside[bound.receiver]);
  double bytes = 0;
  double rate = 0;
  for (Rank rank = 0; rank < topology.ranks(); ++rank) {
    if (inside[rank]) bytes += demand[bound.receiver][rank];
  }
  for (const Link& link : topology.links()) {
    if (inside[link.from] && !inside[link.to]) rate += link.bytes_per_second;
  }
  EXPECT_NEAR(bound.bytes, bytes, 1e-9 * bytes);
  EXPECT_NEAR(bound.bytes_per_second, rate, 1e-9 * rate);
  EXPECT_NEAR(bound.seconds, bytes / rate, 1e-9 * bytes / rate);
}

// Every set of vertices without the receiver, by brute force.
double by_all_cuts(const Topology& topology, const DemandBytes& demand) {
  double seconds = 0;
  for (unsigned set = 1; set < (1U << topology.vertices()); ++set) {
    double rate = 0;
    for (const Link& link : topology.links()) {
      if ((set >> link.from & 1) && !(set >> link.to & 1)) {
        rate += link.bytes_per_second;
      }
    }
    for (Rank to = 0; to < topology.ranks(); ++to) {
      if (set >> to & 1) continue;
      double bytes = 0;
      for (Rank from = 0; from < topology.ranks(); ++from) {
        if (set >> from & 1) bytes += demand[to][from];
      }
      if (bytes > 0) seconds = std::max(seconds, bytes / rate);
    }
  }
  return seconds;
}

Topology random_topology(std::mt19937_64& random) {
  const int ranks = 2 + static_cast<int>(random() % 5);
  const int switches = static_cast<int>(random() % 4);
  Topology::Spec spec;
  spec.name = "random";
  for (int i = 0; i < ranks + switches; ++i) {
    spec.vertices.push_back({i < ranks ? VertexKind::rank : VertexKind::switch_,
                             "v" + std::to_string(i), 0});
  }
  const int count = ranks + switches;
  for (int from = 0; from < count; ++from) {
    for (int to = 0; to < count; ++to) {
      if (from == to || (to != (from + 1) % count && random() % 3 != 0)) {
        continue;
      }
      spec.links.push_back(
          {from, to, 1e9 * (1 + static_cast<double>(random() % 1000) / 37), 0,
           "link"});
    }
  }
  return Topology(std::move(spec));
}

TEST(LowerBound, EqualsTheBestOfAllCuts) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 300; ++i) {
    const Topology topology = random_topology(random);
    DemandBytes demand = full(topology.ranks(), 1e6);
    if (i % 2 == 1) {
      for (auto& row : demand) {
        for (double& bytes : row) bytes = static_cast<double>(random() % 100);
      }
    }
    const LowerBound bound = lower_bound(topology, demand);
    const double best = by_all_cuts(topology, demand);
    ASSERT_NEAR(bound.seconds, best, 1e-9 * best) << i;
    if (best > 0) expect_proven(topology, demand, bound);
  }
}

void expect_closed_form(const Fabric& fabric) {
  const double shard = 3e6;
  const Topology topology = expand(fabric);
  const LowerBound bound = lower_bound(topology, full(topology.ranks(), shard));
  const std::optional<double> closed = closed_form_bound(fabric, shard);
  ASSERT_TRUE(closed.has_value());
  EXPECT_NEAR(*closed, bound.seconds, 1e-9 * bound.seconds)
      << name(fabric.kind) << " of " << fabric.ranks << ", nodes "
      << fabric.nodes << ", NICs " << fabric.nics_per_node << ", inside "
      << name(fabric.inside) << ", NIC rate " << fabric.nic_bytes_per_second;
}

TEST(ClosedFormBound, EqualsTheFlowBoundOfPlainFabrics) {
  for (int n = 1; n <= 16; ++n) {
    for (const FabricKind kind :
         {FabricKind::mesh, FabricKind::switch_, FabricKind::ring}) {
      expect_closed_form(
          {.kind = kind, .ranks = n, .link_bytes_per_second = 7e9});
    }
  }
}

TEST(ClosedFormBound, EqualsTheFlowBoundOfTori) {
  for (int a = 2; a <= 8; ++a) {
    for (int b = 2; a * b <= 16; ++b) {
      Fabric torus{.kind = FabricKind::torus,
                   .ranks = a * b,
                   .link_bytes_per_second = 7e9,
                   .dimensions = {a, b}};
      expect_closed_form(torus);
      for (int c = 2; a * b * c <= 16; ++c) {
        torus.ranks = a * b * c;
        torus.dimensions = {a, b, c};
        expect_closed_form(torus);
      }
    }
  }
}

TEST(ClosedFormBound, EqualsTheFlowBoundOfTwoLevels) {
  for (const FabricKind inside : {FabricKind::mesh, FabricKind::switch_}) {
    for (int nodes = 1; nodes <= 8; ++nodes) {
      for (int m = 1; nodes * m <= 16; ++m) {
        for (int nics = 1; nics <= m; ++nics) {
          if (m % nics != 0) continue;
          for (const double nic : {1e9, 4e9, 8e9, 16e9, 50e9}) {
            expect_closed_form({.kind = FabricKind::two_level,
                                .ranks = nodes * m,
                                .link_bytes_per_second = 8e9,
                                .nodes = nodes,
                                .inside = inside,
                                .nic_bytes_per_second = nic,
                                .nics_per_node = nics});
          }
        }
      }
    }
  }
}

TEST(ClosedFormBound, OfTheFormulasInTheDocs) {
  const double shard = 1e6;
  EXPECT_DOUBLE_EQ(
      *closed_form_bound(
          {.kind = FabricKind::mesh, .ranks = 8, .link_bytes_per_second = 5e9},
          shard),
      shard / 5e9);
  Fabric two{.kind = FabricKind::two_level,
             .ranks = 16,
             .link_bytes_per_second = 8e9,
             .nodes = 2,
             .nic_bytes_per_second = 2e9,
             .nics_per_node = 8};
  EXPECT_DOUBLE_EQ(*closed_form_bound(two, shard), 1 * shard / 2e9);
  two.nic_bytes_per_second = 8e9;
  EXPECT_DOUBLE_EQ(*closed_form_bound(two, shard), 15 * shard / (8e9 * 8));
  // No graph is built: any size will do.
  two.ranks = 1 << 20;
  two.nodes = 1 << 10;
  EXPECT_GT(*closed_form_bound(two, shard), 0);
}

TEST(LowerBound, OfUnequalShardsOnAMesh) {
  const std::vector<double> shard = {1, 5, 2, 0};
  DemandBytes demand(4, shard);
  const Topology mesh = expand(
      {.kind = FabricKind::mesh, .ranks = 4, .link_bytes_per_second = 1});
  EXPECT_NEAR(lower_bound(mesh, demand).seconds, 8.0 / 3, 1e-12);
  // What nobody needs does not count; one shard alone spreads over all links.
  for (auto& row : demand) row = {0, 5, 0, 0};
  const LowerBound bound = lower_bound(mesh, demand);
  EXPECT_NEAR(bound.seconds, 5.0 / 3, 1e-12);
}

TEST(LowerBound, OfNothing) {
  const Topology mesh = expand(
      {.kind = FabricKind::mesh, .ranks = 3, .link_bytes_per_second = 1});
  EXPECT_EQ(lower_bound(mesh, full(3, 0)).seconds, 0);
  EXPECT_EQ(lower_bound(mesh, full(3, 0)).receiver, -1);
  const Topology one = expand(
      {.kind = FabricKind::mesh, .ranks = 1, .link_bytes_per_second = 1});
  EXPECT_EQ(lower_bound(one, full(1, 7)).seconds, 0);
}

// Both directions of a half-duplex cable count in full: still a bound.
TEST(LowerBound, RelaxesSharedCapacity) {
  Topology::Spec spec;
  spec.name = "pair";
  spec.vertices = {{VertexKind::rank, "a", 0}, {VertexKind::rank, "b", 0}};
  spec.links = {{0, 1, 2, 0, "pcie", 0}, {1, 0, 2, 0, "pcie", 0}};
  EXPECT_DOUBLE_EQ(lower_bound(Topology(spec), full(2, 6)).seconds, 3);
}

TEST(LowerBound, RefusesWhatItCannotUse) {
  const Topology mesh = expand(
      {.kind = FabricKind::mesh, .ranks = 3, .link_bytes_per_second = 1});
  EXPECT_THAT([&] { lower_bound(mesh, full(2, 1)); },
              ThrowsMessage<InvalidArgument>(HasSubstr("of 2 ranks; want 3")));
  DemandBytes demand = full(3, 1);
  demand[1][2] = -1;
  EXPECT_THAT([&] { lower_bound(mesh, demand); },
              ThrowsMessage<InvalidArgument>(
                  HasSubstr("got -1 bytes of rank 2 for rank 1")));
  Topology::Spec spec;
  spec.name = "one way";
  spec.vertices = {{VertexKind::rank, "a", 0}, {VertexKind::rank, "b", 0}};
  spec.links = {{0, 1, 2, 0, "link"}};
  EXPECT_THAT([&] { lower_bound(Topology(spec), full(2, 1)); },
              ThrowsMessage<InvalidArgument>(HasSubstr("rank 0 needs data")));
}

TEST(LowerBound, OfManyRanks) {
  const Topology mesh = expand(
      {.kind = FabricKind::mesh, .ranks = 64, .link_bytes_per_second = 3e9});
  EXPECT_NEAR(lower_bound(mesh, full(64, 6e9)).seconds, 2, 1e-9);
}

}  // namespace
}  // namespace ringweave::topology
