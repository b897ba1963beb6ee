#include "ringweave/topology/tree_packing.h"

#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/topology/builtin.h"

namespace ringweave::topology {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(StepGraph, OfAMeshHasOneStrandPerLink) {
  const Topology mesh = builtin("mesh:ranks=5,rate=2");
  // 4 strands of 1/4 byte in 4 steps: 1 byte over each link of 2 bytes/s.
  const auto graph = step_graph(mesh, hop_routes(mesh), 4, 4, 0.5);
  ASSERT_TRUE(graph.has_value());
  EXPECT_EQ(graph->edges.size(), 20);
  for (const StepGraph::Edge& edge : graph->edges) EXPECT_EQ(edge.strands, 1);
  EXPECT_FALSE(step_graph(mesh, hop_routes(mesh), 4, 4, 0.49).has_value());
}

// What all hops of a step put on each link stays within its share.
TEST(StepGraph, KeepsToTheLinksOfSwitches) {
  for (const char* name :
       {"switch:ranks=6,rate=1", "dgx-h100:nodes=2", "pcie-2x4", "dgx-1",
        "two_level:nodes=2,ranks=8,rate=4,nic=1,nics=1"}) {
    const Topology topology = builtin(name);
    const std::vector<Route> all = hop_routes(topology);
    double slowest = topology.links()[0].bytes_per_second;
    for (const Link& link : topology.links()) {
      slowest = std::min(slowest, link.bytes_per_second);
    }
    const double seconds = 2 * topology.ranks() / slowest;
    const auto graph = step_graph(topology, all, 4, 6, seconds);
    ASSERT_TRUE(graph.has_value()) << name;
    std::map<int, int> carried;
    for (const StepGraph::Edge& edge : graph->edges) {
      for (const int link : topology.route(edge.from, edge.to)) {
        carried[link] += edge.strands;
      }
    }
    for (const auto& [link, strands] : carried) {
      EXPECT_LE(strands, topology.links()[link].bytes_per_second * seconds * 4 /
                             6 * (1 + 1e-6))
          << name;
    }
  }
}

TEST(StepGraph, RefusesTooManyRanks) {
  const Topology ring = builtin("ring:ranks=65");
  EXPECT_THAT([&] { step_graph(ring, hop_routes(ring), 1, 64, 1); },
              ThrowsMessage<InvalidArgument>(
                  HasSubstr("got 65 ranks; want at most 64")));
}

// 0 -> 1 -> 2 and back, one strand each way in all steps.
TEST(CanComplete, SeesTreesThatBlockEachOther) {
  const StepGraph line{.ranks = 3,
                       .strands = 1,
                       .steps = 2,
                       .edges = {{0, 1, 1}, {1, 2, 1}, {2, 1, 1}, {1, 0, 1}}};
  std::vector<RankSet> trees = {0b001, 0b010, 0b100};
  std::vector<int> room = {1, 2, 1, 2};
  for (Rank rank = 0; rank < 3; ++rank) {
    EXPECT_TRUE(can_complete(line, room, trees, rank));
  }
  room[1] = 1;  // two trees have to go 1 -> 2
  EXPECT_TRUE(can_complete(line, room, trees, 0));
  EXPECT_FALSE(can_complete(line, room, trees, 2));
  trees[0] = 0b101;  // unless one is there already
  EXPECT_TRUE(can_complete(line, room, trees, 2));
}

TEST(Ways, PassNoRank) {
  const Topology torus = builtin("torus:dimensions=3x3");
  EXPECT_EQ(hop_routes(torus).size(), 9 * 4);
  const Topology two = builtin("dgx-h100:nodes=2");
  EXPECT_EQ(hop_routes(two).size(), 16 * 15);
}

TEST(Spread, SharesAPortEvenly) {
  const Topology hub = builtin("switch:ranks=4");
  const std::vector<Route> all = hop_routes(hub);
  const std::vector<int> given =
      spread(all, std::vector<int>(hub.links().size(), 6));
  for (const int units : given) EXPECT_EQ(units, 2);
}

}  // namespace
}  // namespace ringweave::topology
