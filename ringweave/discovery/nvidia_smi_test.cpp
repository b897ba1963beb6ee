#include "ringweave/discovery/nvidia_smi.h"

#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/topology/builtin.h"

namespace ringweave::discovery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::ThrowsMessage;

// 8 V100 with NVLink and one NIC, from the test reports of
// github.com/Oneflow-Inc/DLPerf.
constexpr const char* kCubeMesh = R"($ nvidia-smi topo -m
        GPU0    GPU1    GPU2    GPU3    GPU4    GPU5    GPU6    GPU7    mlx5_0  CPU Affinity
GPU0     X      NV1     NV1     NV2     NV2     SYS     SYS     SYS     NODE    0-11,24-35
GPU1    NV1      X      NV2     NV1     SYS     NV2     SYS     SYS     NODE    0-11,24-35
GPU2    NV1     NV2      X      NV2     SYS     SYS     NV1     SYS     PIX     0-11,24-35
GPU3    NV2     NV1     NV2      X      SYS     SYS     SYS     NV1     PIX     0-11,24-35
GPU4    NV2     SYS     SYS     SYS      X      NV1     NV1     NV2     SYS     12-23,36-47
GPU5    SYS     NV2     SYS     SYS     NV1      X      NV2     NV1     SYS     12-23,36-47
GPU6    SYS     SYS     NV1     SYS     NV1     NV2      X      NV2     SYS     12-23,36-47
GPU7    SYS     SYS     SYS     NV1     NV2     NV1     NV2      X      SYS     12-23,36-47
mlx5_0  NODE    NODE    PIX     PIX     SYS     SYS     SYS     SYS      X

Legend:

  X    = Self
)";

// DGX H100, from
// kubernetes.recipes/recipes/ai/dgx-h100-nvidia-smi-topo-kubernetes.
constexpr const char* kSwitch = R"(
        GPU0  GPU1  GPU2  GPU3  GPU4  GPU5  GPU6  GPU7  CPU Affinity  NUMA
GPU0     X    NV18  NV18  NV18  NV18  NV18  NV18  NV18  0-51         0
GPU1    NV18   X    NV18  NV18  NV18  NV18  NV18  NV18  0-51         0
GPU2    NV18  NV18   X    NV18  NV18  NV18  NV18  NV18  0-51         0
GPU3    NV18  NV18  NV18   X    NV18  NV18  NV18  NV18  0-51         0
GPU4    NV18  NV18  NV18  NV18   X    NV18  NV18  NV18  52-103       1
GPU5    NV18  NV18  NV18  NV18  NV18   X    NV18  NV18  52-103       1
GPU6    NV18  NV18  NV18  NV18  NV18  NV18   X    NV18  52-103       1
GPU7    NV18  NV18  NV18  NV18  NV18  NV18  NV18   X    52-103       1

Legend:
)";

// Two GPUs below one host bridge, from
// github.com/noonghunna/club-3090/issues/1133; and two of two sockets, from
// github.com/noonghunna/club-3090/issues/178.
constexpr const char* kBridge =
    "\tGPU0\tGPU1\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\n"
    "GPU0\t X \tPHB\t0-63\t0\t\tN/A\n"
    "GPU1\tPHB\t X \t0-63\t0\t\tN/A\n"
    "\nLegend:\n";
constexpr const char* kSockets =
    "\tGPU0\tGPU1\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\n"
    "GPU0\t X \tSYS\t0-7,16-23\t\tN/A\t\tN/A\n"
    "GPU1\tSYS\t X \t8-15,24-31\t1\t\tN/A\n"
    "\nLegend:\n";

topology::Topology import(const std::string& text,
                          const ClassRates& rates = {}) {
  return topology_from_nvidia_smi(text, rates, "topo.txt");
}

std::vector<std::string> passed(const topology::Topology& topology, Rank from,
                                Rank to) {
  std::vector<std::string> names;
  for (const int link : topology.route(from, to)) {
    names.push_back(topology.vertex(topology.links()[link].to).name);
  }
  return names;
}

TEST(NvidiaSmi, CubeMeshHasTheNvLinksOfDgx1) {
  const topology::Topology imported = import(kCubeMesh);
  const topology::Topology dgx = topology::builtin("dgx-1");
  ASSERT_EQ(imported.ranks(), 8);
  for (Rank a = 0; a < 8; ++a) {
    for (Rank b = 0; b < 8; ++b) {
      const auto link = imported.link(a, b);
      ASSERT_EQ(link.has_value(), dgx.link(a, b).has_value());
      if (!link) continue;
      EXPECT_EQ(imported.links()[*link].bytes_per_second,
                dgx.links()[*dgx.link(a, b)].bytes_per_second);
    }
  }
  imported.check_connected();
}

TEST(NvidiaSmi, CubeMeshHangsOnTwoSockets) {
  const topology::Topology imported =
      import(kCubeMesh, {{"SYS", 7e9}, {"PIX", 9e9}});
  // The NIC tells that GPUs 2 and 3 share a PCIe switch.
  EXPECT_THAT(passed(imported, 2, 5),
              ElementsAre("pcie0", "host0", "host1", "gpu5"));
  EXPECT_THAT(passed(imported, 0, 5), ElementsAre("host0", "host1", "gpu5"));
  const auto& links = imported.links();
  EXPECT_EQ(links[imported.route(0, 5)[1]].bytes_per_second, 7e9);
  EXPECT_EQ(links[imported.route(2, 5)[0]].bytes_per_second, 9e9);
  EXPECT_EQ(links[imported.route(2, 5)[0]].link_class, "PIX");
}

TEST(NvidiaSmi, EqualNvLinksBeyondAGpusAreASwitch) {
  const topology::Topology imported = import(kSwitch);
  ASSERT_TRUE(imported.fabric().has_value());
  EXPECT_EQ(imported.fabric()->kind, topology::FabricKind::switch_);
  EXPECT_DOUBLE_EQ(imported.fabric()->link_bytes_per_second, 450e9);
  EXPECT_DOUBLE_EQ(
      import(kSwitch, {{"NV", 50e9}}).fabric()->link_bytes_per_second, 900e9);
  EXPECT_DOUBLE_EQ(import(kSwitch, {{"NV18", 370e9}, {"NV", 1}})
                       .fabric()
                       ->link_bytes_per_second,
                   370e9);
}

/// `gpus` with `links` NVLinks between each two.
std::string all_pairs(int gpus, int links) {
  std::string text;
  for (int a = 0; a < gpus; ++a) text += fmt::format("\tGPU{}", a);
  text += "\tCPU Affinity\n";
  for (int a = 0; a < gpus; ++a) {
    text += fmt::format("GPU{}", a);
    for (int b = 0; b < gpus; ++b) {
      text += a == b ? "\t X " : fmt::format("\tNV{}", links);
    }
    text += "\t0-63\n";
  }
  return text;
}

TEST(NvidiaSmi, SaysWhereDirectLinksMayBeASwitch) {
  // HGX H100 of 4 and GH200 of 4 have 18 / 3 direct links to each other GPU; 4
  // of the 16 V100 of a DGX-2 show all their 6 links to a switch.
  const topology::Topology four = import(all_pairs(4, 6));
  ASSERT_FALSE(four.fabric().has_value());
  EXPECT_EQ(four.links()[*four.link(0, 3)].bytes_per_second, 150e9);
  EXPECT_THAT(four.source(), HasSubstr("switch:ranks=4,rate=1.5e+11"));
  EXPECT_THAT(import(all_pairs(3, 8)).source(), HasSubstr("NV8"));
  // No GPU on a switch has so few; two GPUs are the same either way; and with
  // more links nothing but a switch is possible.
  for (const auto& [gpus, links] : {std::pair{4, 4}, {2, 12}, {4, 8}}) {
    EXPECT_THAT(import(all_pairs(gpus, links)).source(),
                Not(HasSubstr("switch:ranks")))
        << gpus << " GPUs of " << links;
  }
}

TEST(NvidiaSmi, NicsHaveAnyName) {
  const auto text = [](const std::string& nic, const std::string& after) {
    return "\tGPU0\tGPU1\tGPU2\t" + nic + "\tCPU Affinity\n" +
           "GPU0\t X \tSYS\tSYS\tSYS\t0-7\n" +
           "GPU1\tSYS\t X \tPHB\tPIX\t8-15\n" +
           "GPU2\tSYS\tPHB\t X \tPHB\t8-15\n" + nic + "\tSYS\tPIX\tPHB\t X \n" +
           after;
  };
  for (const char* nic :
       {"NIC0", "mlx4_0", "mlx5_0", "mlx5_bond_0", "mlx5_ib0", "irdma0",
        "rocep1s0f0", "ibp12s0", "bnxt_re0", "hfi1_0", "rdmap16s27", "nic"}) {
    for (const char* after : {"", "\nLegend:\n", "Legend:\n\n  X    = Self\n",
                              "NIC Legend:\n  NIC0: mlx5_bond_0\n"}) {
      EXPECT_EQ(import(text(nic, after)).ranks(), 3) << nic << after;
    }
  }
}

TEST(NvidiaSmi, PcieAlone) {
  EXPECT_THAT(passed(import(kBridge), 0, 1), ElementsAre("host0", "gpu1"));
  const topology::Topology sockets = import(kSockets);
  EXPECT_THAT(passed(sockets, 0, 1), ElementsAre("host0", "host1", "gpu1"));
  EXPECT_EQ(sockets.links()[sockets.route(0, 1)[0]].link_class, "PHB");
  EXPECT_EQ(sockets.links()[sockets.route(0, 1)[1]].link_class, "SYS");
}

TEST(NvidiaSmi, NearClassesNestInFartherOnes) {
  const topology::Topology tree = import(
      "     GPU0 GPU1 GPU2 GPU3 GPU4\n"
      "GPU0 X    PIX  PXB  NODE SYS\n"
      "GPU1 PIX  X    PXB  NODE SYS\n"
      "GPU2 PXB  PXB  X    NODE SYS\n"
      "GPU3 NODE NODE NODE X    SYS\n"
      "GPU4 SYS  SYS  SYS  SYS  X\n");
  EXPECT_THAT(passed(tree, 0, 1), ElementsAre("pcie0", "gpu1"));
  EXPECT_THAT(passed(tree, 0, 2), ElementsAre("pcie0", "pcie1", "gpu2"));
  EXPECT_THAT(passed(tree, 2, 3), ElementsAre("pcie1", "host0", "gpu3"));
  EXPECT_THAT(passed(tree, 4, 3), ElementsAre("host1", "host0", "gpu3"));
}

TEST(NvidiaSmi, TerminalColoursDoNotMatter) {
  EXPECT_EQ(import("\x1b[4m\tGPU0\tGPU1\tCPU Affinity\x1b[0m\n"
                   "GPU0\t X \tNV4\t0-3\nGPU1\tNV4\t X \t0-3\n")
                .links()[0]
                .bytes_per_second,
            100e9);
}

void expect_refused(const std::string& text, const std::string& words,
                    const ClassRates& rates = {}) {
  EXPECT_THAT([&] { import(text, rates); },
              ThrowsMessage<InvalidArgument>(HasSubstr(words)));
}

/// kCubeMesh with one thing replaced.
std::string changed(const std::string& from, const std::string& to) {
  std::string text = kCubeMesh;
  text.replace(text.find(from), from.size(), to);
  return text;
}

TEST(NvidiaSmi, RefusesWhatIsNoSuchTable) {
  expect_refused("", "no line of columns");
  expect_refused("GPU0 X PIX\nGPU1 PIX X\n", "no line of columns");
  expect_refused("  GPU0 GPU1\nGPU0 X PIX\nGPU1 PIX X\nGPU2 PIX PIX\n",
                 "a row of GPU2 in line 4; want none");
  expect_refused("No devices were found\n", "no line of columns");
  expect_refused(std::string(kSwitch).substr(0, 400), "[topo.txt] got");
  expect_refused("  GPU0 GPU1\nGPU0 X PIX\n", "no row of GPU1");
  expect_refused("  GPU0 GPU1\nGPU0 X\n", "1 cells in the row of GPU0; want 2");
  expect_refused("  GPU0 GPU1\nGPU1 PIX X\n", "no row of GPU0");
  expect_refused(changed("NV2", "NVX"), "\"NVX\" between GPU0 and GPU3");
  expect_refused(changed("SYS", "PCI"), "\"PCI\" between GPU0 and GPU5");
  expect_refused(changed("NV2", "NV3"), "GPU0 to GPU3 and back");
  expect_refused(changed(" X ", " SYS "), "between GPU0 and GPU0; want X");
}

TEST(NvidiaSmi, RefusesADeviceTwice) {
  expect_refused("  GPU0 GPU0\nGPU0 X X\nGPU0 X X\n",
                 "got GPU0 twice among the columns");
}

TEST(NvidiaSmi, RefusesClassesThatContradictEachOther) {
  expect_refused(
      "  GPU0 GPU1 GPU2\nGPU0 X PIX SYS\nGPU1 PIX X PIX\nGPU2 SYS PIX X\n",
      "got SYS between GPU0 and GPU2, but at most PIX from each of them to "
      "GPU1");
}

TEST(NvidiaSmi, RefusesRatesOfClassesThatAreNotThere) {
  expect_refused(kCubeMesh, "class NV7, which no link of its GPUs has",
                 {{"NV7", 5e9}});
  expect_refused(kBridge, "class SYS, which no link of its GPUs has",
                 {{"SYS", 5e9}});
}

TEST(NvidiaSmi, RefusesRatesThatAreNone) {
  expect_refused(kBridge, "class \"PCI\"", {{"PCI", 1e9}});
  expect_refused(kBridge, "0 bytes per second of class PHB", {{"PHB", 0}});
  expect_refused(kBridge, "-1 bytes per second", {{"SYS", -1}});
}

}  // namespace
}  // namespace ringweave::discovery
