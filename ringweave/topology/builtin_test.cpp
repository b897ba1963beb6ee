#include "ringweave/topology/builtin.h"

#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave::topology {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::ThrowsMessage;

double total(const Topology& topology) {
  double sum = 0;
  for (const Link& link : topology.links()) sum += link.bytes_per_second;
  return sum;
}

double total(const Topology& topology, const std::string& link_class) {
  double sum = 0;
  for (const Link& link : topology.links()) {
    if (link.link_class == link_class) sum += link.bytes_per_second;
  }
  return sum;
}

double out_of(const Topology& topology, int vertex) {
  double sum = 0;
  for (const int link : topology.outgoing(vertex)) {
    sum += topology.links()[link].bytes_per_second;
  }
  return sum;
}

std::vector<std::string> names_passed(const Topology& topology, Rank from,
                                      Rank to) {
  std::vector<std::string> names;
  for (const int link : topology.route(from, to)) {
    names.push_back(topology.vertex(topology.links()[link].to).name);
  }
  return names;
}

int count(const Topology& topology, VertexKind kind) {
  int found = 0;
  for (int v = 0; v < topology.vertices(); ++v) {
    found += topology.vertex(v).kind == kind ? 1 : 0;
  }
  return found;
}

TEST(Builtin, EveryNameIsConnectedByRoutes) {
  for (const BuiltinName& name : builtin_names()) {
    SCOPED_TRACE(name.name);
    const Topology topology = builtin(name.name);
    EXPECT_EQ(topology.name(), name.name);
    EXPECT_EQ(topology.source(), name.source);
    topology.check_connected();
    for (Rank from = 0; from < topology.ranks(); ++from) {
      const auto routes = topology.routes(from);
      for (Rank to = 0; to < topology.ranks(); ++to) {
        EXPECT_EQ(routes[to].empty(), from == to) << from << " to " << to;
      }
    }
    for (const Link& link : topology.links()) {
      const auto back = topology.link(link.to, link.from);
      ASSERT_TRUE(back.has_value());
      EXPECT_EQ(topology.links()[*back].bytes_per_second,
                link.bytes_per_second);
    }
  }
}

TEST(Builtin, MachinesNameTheirSources) {
  for (const BuiltinName& name : builtin_names()) {
    const bool regular = name.name == "mesh" || name.name == "switch" ||
                         name.name == "ring" || name.name == "torus" ||
                         name.name == "two_level";
    EXPECT_EQ(name.source.empty(), regular) << name.name;
  }
}

TEST(Builtin, MeshAndSwitch) {
  for (const int n : {1, 2, 3, 7}) {
    const std::string options = ":rate=5e9,ranks=" + std::to_string(n);
    const Topology mesh = builtin("mesh" + options);
    EXPECT_THAT(mesh.links(), SizeIs(n * (n - 1)));
    EXPECT_DOUBLE_EQ(total(mesh), 5e9 * n * (n - 1));
    const Topology hub = builtin("switch" + options);
    EXPECT_THAT(hub.links(), SizeIs(2 * n));
    EXPECT_EQ(hub.vertices(), n + 1);
  }
}

TEST(Builtin, LatencyIsThatOfAWholeWay) {
  const auto latency = [](const Topology& topology, Rank to) {
    double sum = 0;
    for (const int link : topology.route(0, to)) {
      sum += topology.links()[link].latency_seconds;
    }
    return sum;
  };
  EXPECT_DOUBLE_EQ(latency(builtin("mesh:latency=1e-6"), 1), 1e-6);
  EXPECT_DOUBLE_EQ(latency(builtin("switch:latency=1e-6"), 1), 1e-6);
  const Topology nodes =
      builtin("two_level:latency=1e-6,nic_latency=5e-6,inside=switch");
  EXPECT_DOUBLE_EQ(latency(nodes, 3), 1e-6);
  EXPECT_DOUBLE_EQ(latency(nodes, 4), 5e-6);
}

TEST(Builtin, RingAndTorusForwardInRanks) {
  EXPECT_THAT(builtin("ring:ranks=2").links(), SizeIs(2));
  EXPECT_THAT(builtin("ring:ranks=1").links(), SizeIs(0));
  const Topology ring = builtin("ring:ranks=7");
  EXPECT_THAT(ring.links(), SizeIs(14));
  EXPECT_THAT(names_passed(ring, 0, 5), ElementsAre("rank6", "rank5"));
  // 3 × 4: each rank has 4 links; a side of 2 has one cable.
  EXPECT_THAT(builtin("torus:dimensions=3x4").links(), SizeIs(48));
  const Topology torus = builtin("torus:dimensions=2x3x4,rate=2");
  EXPECT_EQ(torus.ranks(), 24);
  EXPECT_THAT(torus.links(), SizeIs(24 * 5));
  for (Rank rank = 0; rank < 24; ++rank) EXPECT_EQ(out_of(torus, rank), 10);
  EXPECT_THAT(torus.route(0, 12 + 4 + 2), SizeIs(4));
}

TEST(Builtin, TwoLevelsShareNics) {
  const Topology own = builtin("two_level:ranks=6,nodes=2,rate=4,nic=1");
  EXPECT_EQ(own.nodes(), 2);
  EXPECT_EQ(count(own, VertexKind::nic), 6);
  EXPECT_EQ(total(own, "link"), 2 * 6 * 4);
  EXPECT_EQ(total(own, "nic"), 2 * 6);
  EXPECT_THAT(names_passed(own, 0, 4),
              ElementsAre("nic0", "spine", "nic4", "rank4"));
  EXPECT_THAT(names_passed(own, 0, 2), ElementsAre("rank2"));
  const Topology shared =
      builtin("two_level:ranks=8,nodes=2,nics=2,nic=3,inside=switch");
  EXPECT_EQ(count(shared, VertexKind::nic), 4);
  EXPECT_EQ(total(shared, "nic"), 2 * 4 * 3);
  EXPECT_THAT(names_passed(shared, 1, 6),
              ElementsAre("nic0", "spine", "nic3", "rank6"));
  EXPECT_THAT(names_passed(shared, 0, 3), ElementsAre("switch0", "rank3"));
  EXPECT_EQ(shared.vertex(8).name, "switch0");
}

TEST(Builtin, Mi300xHasItsPublishedTotals) {
  const Topology node = builtin("8xMI300X");
  EXPECT_THAT(node.links(), SizeIs(56));
  EXPECT_DOUBLE_EQ(out_of(node, 0), 7 * 48e9);
  EXPECT_DOUBLE_EQ(total(builtin("8xMI300X:rate=64e9")), 56 * 64e9);
}

TEST(Builtin, DgxSwitchesHaveTheirPublishedTotals) {
  EXPECT_DOUBLE_EQ(total(builtin("dgx-a100")), 4.8e12);
  EXPECT_DOUBLE_EQ(total(builtin("dgx-h100")), 7.2e12);
  const Topology two = builtin("dgx-h100:nodes=2");
  EXPECT_EQ(two.ranks(), 16);
  EXPECT_EQ(two.nodes(), 2);
  EXPECT_DOUBLE_EQ(total(two, "port"), 2 * 7.2e12);
  EXPECT_EQ(count(two, VertexKind::nic), 16);
  EXPECT_DOUBLE_EQ(total(two, "nic"), 2 * 16 * 400e9 / 8);
  EXPECT_DOUBLE_EQ(total(builtin("dgx-a100:nodes=3"), "nic"),
                   2 * 24 * 200e9 / 8);
  // Both directions of 72 GPUs: published as 130 TB/s.
  EXPECT_DOUBLE_EQ(total(builtin("nvl72")), 129.6e12);
}

TEST(Builtin, Dgx1IsAHybridCubeMesh) {
  const Topology dgx = builtin("dgx-1");
  EXPECT_DOUBLE_EQ(total(dgx, "nvlink") + total(dgx, "nvlink_x2"),
                   2 * 24 * 25e9);
  EXPECT_DOUBLE_EQ(total(dgx, "nvlink"), 2 * 8 * 25e9);
  for (Rank gpu = 0; gpu < 8; ++gpu) {
    double nvlinks = 0;
    for (const int link : dgx.outgoing(gpu)) {
      if (dgx.links()[link].to < 8) {
        nvlinks += dgx.links()[link].bytes_per_second;
      }
    }
    EXPECT_DOUBLE_EQ(nvlinks, 6 * 25e9) << gpu;
  }
  // The two halves of a cube mesh look alike.
  for (Rank a = 0; a < 4; ++a) {
    for (Rank b = 0; b < 4; ++b) {
      EXPECT_EQ(dgx.link(a, b).has_value(), dgx.link(a + 4, b + 4).has_value());
    }
  }
  EXPECT_THAT(names_passed(dgx, 0, 3), ElementsAre("gpu3"));
  EXPECT_THAT(names_passed(dgx, 0, 5),
              ElementsAre("pcie0", "cpu0", "cpu1", "pcie2", "gpu5"));
}

TEST(Builtin, PcieBoxHasTwoSockets) {
  EXPECT_THAT(names_passed(builtin("pcie-2x4"), 3, 4),
              ElementsAre("cpu0", "cpu1", "gpu4"));
  EXPECT_THAT(names_passed(builtin("pcie-2x4"), 0, 3),
              ElementsAre("cpu0", "gpu3"));
  const Topology behind = builtin("pcie-2x4:attach=switch");
  EXPECT_THAT(names_passed(behind, 0, 3), ElementsAre("pcie0", "gpu3"));
  EXPECT_THAT(names_passed(behind, 3, 4),
              ElementsAre("pcie0", "cpu0", "cpu1", "pcie1", "gpu4"));
  EXPECT_DOUBLE_EQ(total(behind, "pcie"), 2 * 10 * 31.5e9);
}

TEST(Builtin, FabricsComeWithoutLinks) {
  const auto fabric = builtin_fabric("mesh:ranks=1000000,rate=2e9");
  ASSERT_TRUE(fabric.has_value());
  EXPECT_EQ(fabric->ranks, 1000000);
  EXPECT_EQ(builtin_fabric("dgx-a100:nodes=128")->ranks, 1024);
  EXPECT_EQ(builtin_fabric("dgx-1"), std::nullopt);
  EXPECT_THAT([] { builtin("mesh:ranks=100000"); },
              ThrowsMessage<InvalidArgument>(HasSubstr("closed forms only")));
}

TEST(Builtin, RefusesWhatItDoesNotKnow) {
  const std::map<std::string, std::string> faults = {
      {"mehs", "did you mean mesh?"},
      {"", "want a file or one of mesh"},
      {"dgx-a10", "dgx-a100"},
      {"mesh:rnaks=8", "did you mean ranks?"},
      {"mesh:ranks", "want key=value"},
      {"mesh:ranks=8,ranks=9", "twice"},
      {"mesh:", "got option \"\" for mesh; want key=value"},
      {"mesh:ranks=8,", "want key=value"},
      {"mesh:rate=1e-320", "want 1 … 1e+18"},
      {"mesh:rate=1e19", "want 1 … 1e+18"},
      {"dgx-1:pcie=1e-320", "want 1 … 1e+18"},
      {"mesh:latency=1e308", "want 0 … 1000"},
      {"dgx-1:latency=1e308", "want 0 … 1000"},
      {"mesh:ranks=eight", "whole number"},
      {"mesh:ranks=8.5", "whole number"},
      {"mesh:ranks=0", "0 ranks"},
      {"mesh:rate=-1", "bytes per second"},
      {"mesh:rate=0", "bytes per second"},
      {"mesh:rate=48GB", "want a number such as 48e9"},
      {"mesh:rate=inf", "want a number such as 48e9"},
      {"mesh:latency=-1", "latency"},
      {"ring:dimensions=2x2", "dimensions for ring"},
      {"torus:dimensions=8", "1 dimensions"},
      {"torus:dimensions=4x", "whole number"},
      {"torus:dimensions=100000x100000", "same"},
      {"two_level:nodes=3", "8 ranks in 3 nodes"},
      {"two_level:nodes=0", "0 nodes"},
      {"two_level:nics=3", "3 NICs"},
      {"two_level:inside=ring", "want mesh or switch"},
      {"dgx-h100:nodes=0", "0 nodes"},
      {"dgx-1:nvlink=0", "bytes per second"},
      {"pcie-2x4:attach=usb", "want root or switch"}};
  for (const auto& fault : faults) {
    SCOPED_TRACE(fault.first);
    EXPECT_THAT([&] { builtin(fault.first); },
                ThrowsMessage<InvalidArgument>(HasSubstr(fault.second)));
  }
}

}  // namespace
}  // namespace ringweave::topology
