#include "ringweave/planner/search/synthesis.h"

#include <algorithm>
#include <map>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/topology/builtin.h"
#include "ringweave/topology/lower_bound.h"

namespace ringweave::planner {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;
using topology::builtin;
using topology::Link;
using topology::Topology;
using topology::VertexKind;

double bound(const Topology& topology, double shard_bytes) {
  const int ranks = topology.ranks();
  const topology::DemandBytes all(ranks,
                                  std::vector<double>(ranks, shard_bytes));
  return topology::lower_bound(topology, all).seconds;
}

// Step after step, each link alone: the plainest model there is.
double step_by_step(const schedule::Trees& trees, const Topology& topology,
                    double shard_bytes) {
  double total = 0;
  for (int step = 0; step < trees.steps; ++step) {
    std::map<int, double> busy;  // seconds; links, and below 0 shared ones
    for (const std::vector<schedule::Hop>& hops : trees.hops) {
      for (const schedule::Hop& hop : hops) {
        if (hop.step != step) continue;
        const std::vector<int> route = topology.route(hop.from, hop.to);
        EXPECT_FALSE(route.empty());
        for (const int index : route) {
          const Link& link = topology.links()[index];
          busy[link.shared < 0 ? index : -1 - link.shared] +=
              shard_bytes / trees.strands / link.bytes_per_second;
        }
      }
    }
    double slowest = 0;
    for (const auto& [link, time] : busy) slowest = std::max(slowest, time);
    total += slowest;
  }
  return total;
}

/// The topology with one cable's rates multiplied, its links dropped if by 0.
Topology with_cable(const Topology& old, int from, int to, double factor,
                    bool both_ways) {
  Topology::Spec spec;
  spec.name = old.name() + " with one cable changed";
  spec.ranks_forward = old.ranks_forward();
  for (int i = 0; i < old.vertices(); ++i) {
    spec.vertices.push_back(old.vertex(i));
  }
  for (Link link : old.links()) {
    const bool there = link.from == from && link.to == to;
    const bool back = link.from == to && link.to == from;
    if (there || (back && both_ways)) link.bytes_per_second *= factor;
    if (link.bytes_per_second > 0) spec.links.push_back(link);
  }
  return Topology(std::move(spec));
}

double ratio_of(const Topology& topology,
                const SynthesisOptions& options = {}) {
  const double shard = 3e6;
  const schedule::Trees trees = synthesise(topology, options);
  check(trees);
  const double time = seconds(trees, topology, shard);
  EXPECT_NEAR(time, step_by_step(trees, topology, shard), 1e-9 * time);
  const double ratio = time / bound(topology, shard);
  EXPECT_GE(ratio, 1 - 1e-9) << topology.name();
  return ratio;
}

class Synthesis : public ::testing::TestWithParam<std::string> {};

TEST_P(Synthesis, ComesCloseToTheBound) {
  EXPECT_LE(ratio_of(builtin(GetParam())), 1.10);
}

INSTANTIATE_TEST_SUITE_P(
    Builtins, Synthesis,
    ::testing::Values(
        "dgx-1", "pcie-2x4", "pcie-2x4:attach=switch", "8xMI300X",
        "8xMI300X:nodes=2", "dgx-h100:nodes=2", "torus:dimensions=4x4",
        "torus:dimensions=2x4", "torus:dimensions=3x5",
        "torus:dimensions=2x2x2", "torus:dimensions=8x8", "ring:ranks=2",
        "ring:ranks=7", "ring:ranks=16", "switch:ranks=8", "mesh:ranks=2",
        "mesh:ranks=4", "mesh:ranks=6", "mesh:ranks=8", "mesh:ranks=64",
        "two_level:nodes=2,ranks=8,rate=4e9,nic=1e9",
        "two_level:nodes=2,ranks=8,rate=4e9,nic=4e9",
        "two_level:nodes=4,ranks=16,rate=4e9,nic=1e9,inside=switch",
        "two_level:nodes=2,ranks=8,rate=4e9,nic=1e9,nics=1"));

TEST(Synthesise, AroundADeadCable) {
  const Topology mesh = builtin("mesh:ranks=8,rate=48e9");
  EXPECT_LE(ratio_of(with_cable(mesh, 2, 5, 0, true)), 1.10);
  EXPECT_LE(ratio_of(with_cable(mesh, 2, 5, 0, false)), 1.10);
  const Topology torus = builtin("torus:dimensions=4x4");
  EXPECT_LE(ratio_of(with_cable(torus, 0, 1, 0, true)), 1.10);
  EXPECT_LE(ratio_of(with_cable(torus, 0, 1, 0, false)), 1.10);
}

TEST(Synthesise, AroundASlowCable) {
  const Topology mesh = builtin("mesh:ranks=8,rate=48e9");
  for (const double factor : {0.01, 0.1, 0.25, 0.3, 0.5, 0.9}) {
    EXPECT_LE(ratio_of(with_cable(mesh, 0, 1, factor, true)), 1.10) << factor;
    EXPECT_LE(ratio_of(with_cable(mesh, 6, 3, factor, false)), 1.10) << factor;
  }
}

Topology random_topology(std::mt19937_64& random, int index) {
  const int ranks = 2 + static_cast<int>(random() % 7);
  const int switches = index % 2 == 0 ? 0 : 1 + static_cast<int>(random() % 3);
  const int count = ranks + switches;
  Topology::Spec spec;
  spec.name = "random";
  for (int i = 0; i < count; ++i) {
    spec.vertices.push_back({i < ranks ? VertexKind::rank : VertexKind::switch_,
                             "v" + std::to_string(i), 0});
  }
  // A cycle joins all; other links come one way or both, at odd rates.
  for (int from = 0; from < count; ++from) {
    for (int to = 0; to < count; ++to) {
      if (from == to || (to != (from + 1) % count && random() % 3 != 0)) {
        continue;
      }
      spec.links.push_back(
          {from, to, 1e9 * (1 + static_cast<double>(random() % 100) / 30), 0,
           "link"});
    }
  }
  return Topology(std::move(spec));
}

// Sanitizers make one thread's work ten times as long and find nothing new in
// more of it.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kRandomTopologies = 60;
#else
constexpr int kRandomTopologies = 500;
#endif

// No schedule may beat the bound.
TEST(Synthesise, NeverBeatsTheBound) {
  std::mt19937_64 random(7);
  std::vector<double> direct;    // ratios without switches
  std::vector<double> switched;  // and with
  for (int i = 0; i < kRandomTopologies; ++i) {
    const double ratio =
        ratio_of(random_topology(random, i), {.max_strands = 10});
    (i % 2 == 0 ? direct : switched).push_back(ratio);
  }
  std::sort(direct.begin(), direct.end());
  std::sort(switched.begin(), switched.end());
  // 9 of 10 without switches. With switches the bound also counts routes that
  // no route takes.
  EXPECT_LE(direct[direct.size() * 9 / 10], 1.10);
  EXPECT_LE(switched[switched.size() / 2], 1.10);
}

TEST(Synthesise, FewStrandsOnRequest) {
  const Topology topology = builtin("dgx-1");
  const schedule::Trees trees = synthesise(topology, {.max_strands = 2});
  EXPECT_LE(trees.strands, 2);
  EXPECT_GE(seconds(trees, topology, 1e6), bound(topology, 1e6));
}

TEST(Synthesise, TakesAsManyStepsAsARing) {
  EXPECT_GE(synthesise(builtin("mesh:ranks=8")).steps, 7);
  EXPECT_EQ(synthesise(builtin("mesh:ranks=8"), {.min_steps = 1}).steps, 1);
}

TEST(Synthesise, IsTheSameEverywhere) {
  const Topology topology = builtin("dgx-1");
  EXPECT_EQ(synthesise(topology), synthesise(topology));
}

TEST(Synthesise, OfOneRank) {
  const schedule::Trees trees = synthesise(builtin("mesh:ranks=1"));
  check(trees);
  EXPECT_EQ(trees.steps, 0);
}

// Both directions of a half-duplex cable take their turns.
TEST(Synthesise, SharesHalfDuplexCables) {
  Topology::Spec spec;
  spec.name = "pair";
  spec.vertices = {{VertexKind::rank, "a", 0}, {VertexKind::rank, "b", 0}};
  spec.links = {{0, 1, 2, 0, "pcie", 0}, {1, 0, 2, 0, "pcie", 0}};
  const Topology pair(std::move(spec));
  EXPECT_DOUBLE_EQ(seconds(synthesise(pair), pair, 6), 6);
}

TEST(Synthesise, RefusesWhatItCannotUse) {
  const Topology mesh = builtin("mesh:ranks=3");
  EXPECT_THAT([&] { synthesise(mesh, {.max_strands = 0}); },
              ThrowsMessage<InvalidArgument>(HasSubstr("at most 0 strands")));
  EXPECT_THAT([&] { synthesise(mesh, {.min_steps = 65}); },
              ThrowsMessage<InvalidArgument>(HasSubstr("at least 65 steps")));
  EXPECT_THAT([&] { synthesise(mesh, {.target_ratio = 0.9}); },
              ThrowsMessage<InvalidArgument>(HasSubstr("target of 0.9 times")));
  EXPECT_THAT([&] { synthesise(builtin("nvl72")); },
              ThrowsMessage<InvalidArgument>(
                  HasSubstr("got 72 ranks; want at most 64")));
  EXPECT_THAT(
      [&] { synthesise(with_cable(builtin("ring:ranks=2"), 0, 1, 0, false)); },
      ThrowsMessage<InvalidArgument>(HasSubstr("no path from")));
  EXPECT_THAT([&] { seconds(synthesise(mesh), builtin("mesh:ranks=4"), 1); },
              ThrowsMessage<InvalidArgument>(HasSubstr("trees of 3 ranks")));
}

}  // namespace
}  // namespace ringweave::planner
