#include "ringweave/discovery/frame.h"

#include <cmath>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/discovery/machine_table.h"
#include "ringweave/discovery/measured_on.h"
#include "ringweave/topology/builtin.h"
#include "ringweave/topology/topology_file.h"

namespace ringweave::discovery {
namespace {

using testing::HasSubstr;
using topology::builtin;
using topology::Topology;

void expect_near(double got, double wanted) {
  EXPECT_NEAR(got / wanted, 1, 0.02) << got << " for " << wanted;
}

TEST(Frame, FindsTheRatesOfAnIrregularMachine) {
  const std::string rates = "dgx-1:nvlink=20e6,pcie=6e6,qpi=9e6,latency=6e-6";
  const Topology machine = builtin(rates);
  const Classification got = fit_frame(measured_on(machine), builtin("dgx-1"));
  EXPECT_FALSE(got.kind);
  EXPECT_THAT(got.reason, HasSubstr("of the links of dgx-1"));
  ASSERT_EQ(got.topology.links().size(), machine.links().size());
  for (std::size_t i = 0; i < machine.links().size(); ++i) {
    const auto& link = got.topology.links()[i];
    EXPECT_EQ(link.link_class, machine.links()[i].link_class);
    if (link.link_class == "qpi") continue;
    SCOPED_TRACE(link.link_class);
    expect_near(link.bytes_per_second, machine.links()[i].bytes_per_second);
  }
  EXPECT_EQ(got.topology.measured()["kind"], "frame");
  EXPECT_EQ(got.topology.measured()["frame"]["name"], "dgx-1");
}

TEST(Frame, ARegularFabricStaysOne) {
  for (const char* kind : {"mesh", "switch"}) {
    const Topology frame = builtin(fmt::format("{}:ranks=4,rate=1e9", kind));
    const Classification got = fit_frame(
        measured_on(
            builtin(fmt::format("{}:ranks=4,rate=20e6,latency=4e-5", kind))),
        frame);
    ASSERT_TRUE(got.topology.fabric()) << got.reason;
    EXPECT_EQ(got.kind, frame.fabric()->kind);
    expect_near(got.topology.fabric()->link_bytes_per_second, 20e6);
    expect_near(got.topology.fabric()->link_latency_seconds, 4e-5);
  }
}

TEST(Frame, NodesStayNodes) {
  const Classification got = fit_frame(
      measured_on(
          builtin("two_level:ranks=6,nodes=2,rate=20e6,nic=4e6,latency=4e-5,"
                  "nic_latency=4e-4,nics=1")),
      builtin("two_level:ranks=6,nodes=2,rate=400e9,nic=50e9,nics=1"));
  ASSERT_TRUE(got.topology.fabric()) << got.reason;
  EXPECT_EQ(got.topology.fabric()->nics_per_node, 1);
  expect_near(got.topology.fabric()->link_bytes_per_second, 20e6);
  expect_near(got.topology.fabric()->nic_bytes_per_second, 4e6);
  expect_near(got.topology.fabric()->link_latency_seconds, 4e-5);
  expect_near(got.topology.fabric()->nic_latency_seconds, 4e-4);
}

/// A mesh of three, a link of which has another rate than the others.
Topology uneven(double rate) {
  Json json = to_json(builtin("mesh:ranks=3,rate=20e6"));
  json.erase("fabric");
  json["ranks"] = {{{"name", "a"}}, {{"name", "b"}}, {{"name", "c"}}};
  json["links"] = {{{"from", "a"}, {"to", "b"}, {"bytes_per_second", rate}},
                   {{"from", "a"}, {"to", "c"}, {"bytes_per_second", 20e6}},
                   {{"from", "b"}, {"to", "c"}, {"bytes_per_second", 20e6}}};
  return topology::topology_from_json(json, "uneven");
}

TEST(Frame, ASlowLinkKeepsItsOwnRate) {
  const Classification got =
      fit_frame(measured_on(uneven(5e6)), builtin("mesh:ranks=3,rate=1e9"));
  EXPECT_FALSE(got.kind);
  const Topology& machine = got.topology;
  expect_near(machine.links()[*machine.link(0, 1)].bytes_per_second, 5e6);
  expect_near(machine.links()[*machine.link(1, 2)].bytes_per_second, 20e6);
}

TEST(Frame, SaysWhatItDoesNotExplain) {
  const Classification got =
      fit_frame(measured_on(builtin("switch:ranks=4,rate=20e6,latency=1e-6")),
                builtin("mesh:ranks=4,rate=1e9"));
  EXPECT_THAT(got.reason, HasSubstr("the links of mesh:ranks=4,rate=1e9 don't "
                                    "explain it: \""));
}

TEST(Frame, LinksThatNoRouteTakesKeepTheirRates) {
  std::string table = "\tGPU0\tGPU1\nGPU0\t X \tNV4\nGPU1\tNV4\t X \n";
  const Topology frame =
      topology_from_table(table, TableKind::nvidia_smi, {}, "topo.txt");
  const Classification got =
      fit_frame(measured_on(builtin("mesh:ranks=2,rate=20e6")), frame);
  EXPECT_THAT(got.reason,
              HasSubstr("links of PHB, SYS that no route takes keep"));
  const Topology& machine = got.topology;
  expect_near(machine.links()[*machine.link(0, 1)].bytes_per_second, 20e6);
  for (const auto& link : machine.links()) {
    if (link.link_class == "PHB") {
      EXPECT_EQ(link.bytes_per_second, 31.5e9);
    }
  }
}

TEST(Frame, RefusesAnotherNumberOfRanks) {
  EXPECT_THROW(
      fit_frame(measured_on(builtin("mesh:ranks=2")), builtin("mesh:ranks=3")),
      InvalidArgument);
}

}  // namespace
}  // namespace ringweave::discovery
