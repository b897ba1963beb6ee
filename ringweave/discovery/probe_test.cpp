#include "ringweave/discovery/probe.h"

#include <mutex>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/discovery/classify.h"
#include "ringweave/discovery/measured_on.h"
#include "ringweave/topology/builtin.h"

namespace ringweave::discovery {
namespace {

using testing::HasSubstr;

Classification found(const std::string& name) {
  return classify(measured_on(topology::builtin(name)));
}

TEST(Probe, MeasuresWhatTheLinksGive) {
  const Measurements got =
      measured_on(topology::builtin("switch:ranks=4,rate=1e8,latency=1e-5"),
                  {.sizes = {1'000'000, 1000, 1000}, .repeats = 3});
  EXPECT_EQ(got.ranks, 4);
  EXPECT_EQ(got.rounds, 3);
  EXPECT_EQ(got.sizes, (std::vector<std::int64_t>{1000, 1'000'000}));
  for (const auto& timed : got.patterns) {
    const bool alone = timed.pattern.pairs.size() == 1;
    const bool ring = timed.pattern.name == "ring";
    const double shares = alone || ring ? 1 : 3;
    EXPECT_NEAR(timed.seconds.at(1).median, 2e-5 + shares * 1e-2, 1e-5)
        << timed.pattern.name;
    EXPECT_NEAR(timed.seconds.at(0).median, 2e-5 + shares * 1e-5, 1e-6)
        << timed.pattern.name;
  }
  EXPECT_NEAR(got.latency[2][1].median, 1e-5, 1e-6);
  EXPECT_NEAR(rate(got, 3, 0), 1e8, 1e6);
}

TEST(Probe, TellsMeshFromSwitch) {
  for (const int ranks : {2, 3, 4, 5, 8}) {
    const auto text = [&](const char* kind) {
      return fmt::format("{}:ranks={},rate=50e6,latency=1e-5", kind, ranks);
    };
    const Classification mesh = found(text("mesh"));
    ASSERT_EQ(mesh.kind, topology::FabricKind::mesh) << mesh.reason;
    const topology::Fabric& fabric = mesh.topology.fabric().value();
    EXPECT_EQ(fabric.ranks, ranks);
    EXPECT_NEAR(fabric.link_bytes_per_second, 50e6, 1e6);
    EXPECT_NEAR(fabric.link_latency_seconds, 1e-5, 1e-6);
    if (ranks == 2) continue;  // the same
    const Classification star = found(text("switch"));
    ASSERT_EQ(star.kind, topology::FabricKind::switch_) << star.reason;
    EXPECT_NEAR(star.topology.fabric()->link_bytes_per_second, 50e6, 1e6);
  }
}

TEST(Probe, FindsNodes) {
  for (const auto& [nodes, each] :
       std::vector<std::pair<int, int>>{{2, 2}, {2, 3}, {2, 4}, {3, 2}}) {
    for (int nics = 1; nics <= each; ++nics) {
      if (each % nics != 0) continue;
      for (const topology::FabricKind inside :
           {topology::FabricKind::mesh, topology::FabricKind::switch_}) {
        if (inside == topology::FabricKind::switch_ && each == 2) continue;
        const topology::Fabric wanted{.kind = topology::FabricKind::two_level,
                                      .ranks = nodes * each,
                                      .link_bytes_per_second = 40e6,
                                      .link_latency_seconds = 1e-5,
                                      .nodes = nodes,
                                      .inside = inside,
                                      .nic_bytes_per_second = 5e6,
                                      .nic_latency_seconds = 5e-5,
                                      .nics_per_node = nics};
        const Classification got =
            classify(measured_on(topology::expand(wanted)));
        ASSERT_EQ(got.kind, topology::FabricKind::two_level) << got.reason;
        const topology::Fabric& fabric = got.topology.fabric().value();
        EXPECT_EQ(fabric.nodes, nodes);
        EXPECT_EQ(fabric.inside, inside);
        EXPECT_EQ(fabric.nics_per_node, nics);
        EXPECT_NEAR(fabric.link_bytes_per_second, 40e6, 1e6);
        EXPECT_NEAR(fabric.nic_bytes_per_second, 5e6, 1e5);
        EXPECT_NEAR(fabric.nic_latency_seconds, 5e-5, 5e-6);
      }
    }
  }
}

TEST(Probe, NodesWithNicsAsFastAsLinksShowByLatency) {
  const Classification got = found(
      "two_level:ranks=8,nodes=2,rate=48e6,latency=1e-5,nics=1,nic=50e6,"
      "nic_latency=6e-5");
  EXPECT_EQ(got.kind, topology::FabricKind::two_level) << got.reason;
  EXPECT_EQ(got.topology.fabric()->nics_per_node, 1);
}

TEST(Probe, OtherMachinesAreAMatrix) {
  const Classification ring = found("ring:ranks=6,rate=1e7,latency=1e-5");
  EXPECT_FALSE(ring.kind) << ring.reason;
  EXPECT_FALSE(ring.topology.fabric());
  EXPECT_THAT(ring.reason, HasSubstr("neither mesh, switch nor two levels"));
  EXPECT_NEAR(ring.topology.links()[*ring.topology.link(0, 3)].bytes_per_second,
              1e7, 1e5);
  const Classification cube = found("dgx-1:nvlink=25e6,pcie=10e6,qpi=10e6");
  EXPECT_FALSE(cube.kind) << cube.reason;
}

TEST(Probe, RoundsThatDoNotFitAreLeftOut) {
  const auto links = topology::builtin("mesh:ranks=3");
  try {
    measured_on(links, {.seconds = 1e-9});
    ADD_FAILURE() << "measured in no time";
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(), HasSubstr("1e-09 s"));
  }
  EXPECT_EQ(measured_on(links, {.sizes = {100}, .repeats = 1}).rounds, 1);
}

TEST(Probe, ItsCallerCanEndIt) {
  EXPECT_THROW(measured_on(topology::builtin("mesh:ranks=3"),
                           {.poll =
                                [calls = 0]() mutable {
                                  if (++calls == 5) throw NoSolution("enough");
                                }}),
               NoSolution);
}

TEST(Probe, ChecksItsOptions) {
  const auto refuses = [](const ProbeOptions& options, int ranks) {
    EXPECT_THROW(check(options, ranks), InvalidArgument);
  };
  check({}, 64);
  refuses({}, 1);
  refuses({.sizes = {}}, 2);
  refuses({.sizes = {100, 0}}, 2);
  refuses({.sizes = {kMaxProbeBufferBytes}}, 3);
  refuses({.repeats = 0}, 2);
  refuses({.seconds = 0}, 2);
}

}  // namespace
}  // namespace ringweave::discovery
