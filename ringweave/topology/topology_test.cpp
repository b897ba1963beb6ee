#include "ringweave/topology/topology.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave::topology {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::ThrowsMessage;

/// Ranks r0 … and after them switches s0 …
Topology::Spec graph(int ranks, int switches, std::vector<Link> links) {
  Topology::Spec spec;
  for (int i = 0; i < ranks; ++i) {
    spec.vertices.push_back({VertexKind::rank, "r" + std::to_string(i), 0});
  }
  for (int i = 0; i < switches; ++i) {
    spec.vertices.push_back({VertexKind::switch_, "s" + std::to_string(i), -1});
  }
  spec.links = std::move(links);
  return spec;
}

std::vector<int> vertices_passed(const Topology& topology, Rank from, Rank to) {
  std::vector<int> vertices;
  for (const int link : topology.route(from, to)) {
    vertices.push_back(topology.links()[link].to);
  }
  return vertices;
}

void expect_refused(const Topology::Spec& spec, const char* text) {
  EXPECT_THAT([&] { Topology topology(spec); },
              ThrowsMessage<InvalidArgument>(HasSubstr(text)));
}

TEST(Topology, ListsLinksByTheirEnds) {
  const Topology topology(
      graph(2, 1, {{0, 2, 5, 0, ""}, {2, 1, 5, 0, ""}, {1, 0, 5, 0, ""}}));
  EXPECT_EQ(topology.ranks(), 2);
  EXPECT_EQ(topology.vertices(), 3);
  EXPECT_THAT(topology.outgoing(2), ElementsAre(1));
  EXPECT_THAT(topology.incoming(0), ElementsAre(2));
  EXPECT_EQ(topology.link(1, 0), 2);
  EXPECT_EQ(topology.link(0, 1), std::nullopt);
}

TEST(Topology, RoutesTakeFewestHopsThenTheWidest) {
  // 0 → 1 through s0 (narrow) or s1 (wide), or by three hops (widest).
  const Topology topology(graph(2, 4,
                                {{0, 2, 5, 0, ""},
                                 {2, 1, 5, 0, ""},
                                 {0, 3, 9, 1, ""},
                                 {3, 1, 7, 1, ""},
                                 {0, 4, 99, 0, ""},
                                 {4, 5, 99, 0, ""},
                                 {5, 1, 99, 0, ""}}));
  EXPECT_THAT(vertices_passed(topology, 0, 1), ElementsAre(3, 1));
}

TEST(Topology, RoutesThenPreferLowLatencyThenLowNumbers) {
  std::vector<Link> links = {{0, 2, 5, 2, ""}, {2, 1, 5, 0, ""},
                             {0, 3, 5, 0, ""}, {3, 1, 5, 1, ""},
                             {0, 4, 5, 1, ""}, {4, 1, 5, 0, ""}};
  EXPECT_THAT(vertices_passed(Topology(graph(2, 3, links)), 0, 1),
              ElementsAre(3, 1));
  for (Link& link : links) link.latency_seconds = 0;
  EXPECT_THAT(vertices_passed(Topology(graph(2, 3, links)), 0, 1),
              ElementsAre(2, 1));
}

TEST(Topology, RoutesPassThroughRanksOnlyWhereTheyForward) {
  Topology::Spec spec = graph(3, 2,
                              {{0, 1, 9, 0, ""},
                               {1, 2, 9, 0, ""},
                               {0, 3, 1, 0, ""},
                               {3, 4, 1, 0, ""},
                               {4, 2, 1, 0, ""}});
  EXPECT_THAT(vertices_passed(Topology(spec), 0, 2), ElementsAre(3, 4, 2));
  spec.ranks_forward = true;
  const Topology topology(spec);
  EXPECT_THAT(vertices_passed(topology, 0, 2), ElementsAre(1, 2));
  EXPECT_THAT(topology.route(2, 0), IsEmpty());
  EXPECT_THAT(topology.route(1, 1), IsEmpty());
  const auto routes = topology.routes(0);
  for (Rank to = 0; to < 3; ++to) EXPECT_EQ(routes[to], topology.route(0, to));
}

TEST(Topology, ChecksThatRanksReachEachOther) {
  Topology::Spec spec = graph(3, 0, {{0, 1, 1, 0, ""}, {1, 2, 1, 0, ""}});
  EXPECT_THAT([&] { Topology(spec).check_connected(); },
              ThrowsMessage<InvalidArgument>(HasSubstr("from r1 to r0")));
  spec.links.push_back({2, 0, 1, 0, ""});
  Topology(spec).check_connected();
}

TEST(Topology, RefusesWhatIsNoGraph) {
  expect_refused(graph(0, 1, {}), "no rank");
  Topology::Spec late = graph(1, 1, {});
  late.vertices.push_back({VertexKind::rank, "r1", 0});
  expect_refused(late, "a rank after a switch");
  expect_refused(graph(2, 0, {{0, 2, 1, 0, ""}}), "want vertices 0 … 1");
  expect_refused(graph(2, 0, {{1, 1, 1, 0, ""}}), "r1 to itself");
  expect_refused(graph(2, 0, {{0, 1, 1, 0, ""}, {0, 1, 2, 0, ""}}),
                 "two links from r0 to r1");
  for (const double rate : {0.0, -1.0, std::nan("")}) {
    expect_refused(graph(2, 0, {{0, 1, rate, 0, ""}}), "bytes per second");
  }
  expect_refused(graph(2, 0, {{0, 1, 1, -1, ""}}), "latency");
}

TEST(Topology, CountsTheNodesOfItsRanks) {
  Topology::Spec spec = graph(3, 1, {});
  spec.vertices[2].node = 5;
  EXPECT_EQ(Topology(spec).nodes(), 2);
}

}  // namespace
}  // namespace ringweave::topology
