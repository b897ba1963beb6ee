#include "ringweave/topology/machines.h"

#include <array>
#include <string>

#include "ringweave/base/error.h"
#include "ringweave/topology/expand.h"

namespace ringweave::topology {
namespace {

constexpr int kGpus = 8;
constexpr int kSockets = 2;

void add_vertices(Topology::Spec& spec, VertexKind kind, const char* prefix,
                  int count) {
  for (int i = 0; i < count; ++i) {
    spec.vertices.push_back({kind, fmt::format("{}{}", prefix, i), 0});
  }
}

struct NvLink {
  int a = 0;
  int b = 0;
  int width = 0;
};

/// As nvidia-smi prints it on this machine, and as the NVLink targets of
/// github.com/NVIDIA/nccl/issues/671 say: six NVLinks a GPU, 24 in all.
constexpr std::array<NvLink, 16> kCubeMesh = {{{0, 1, 1},
                                               {0, 2, 1},
                                               {0, 3, 2},
                                               {0, 4, 2},
                                               {1, 2, 2},
                                               {1, 3, 1},
                                               {1, 5, 2},
                                               {2, 3, 2},
                                               {2, 6, 1},
                                               {3, 7, 1},
                                               {4, 5, 1},
                                               {4, 6, 1},
                                               {4, 7, 2},
                                               {5, 6, 2},
                                               {5, 7, 1},
                                               {6, 7, 2}}};

}  // namespace

Topology::Spec cube_mesh(const CubeMeshRates& rates) {
  constexpr int kSwitches = 4;
  Topology::Spec spec;
  add_vertices(spec, VertexKind::rank, "gpu", kGpus);
  add_vertices(spec, VertexKind::switch_, "pcie", kSwitches);
  add_vertices(spec, VertexKind::host, "cpu", kSockets);
  for (const NvLink& link : kCubeMesh) {
    add_cable(spec, {link.a, link.b, link.width * rates.nvlink_bytes_per_second,
                     rates.latency_seconds,
                     link.width == 1 ? "nvlink" : "nvlink_x2"});
  }
  const int first_host = kGpus + kSwitches;
  for (int gpu = 0; gpu < kGpus; ++gpu) {
    add_cable(spec, {gpu, kGpus + gpu / 2, rates.pcie_bytes_per_second,
                     rates.latency_seconds, "pcie"});
  }
  for (int i = 0; i < kSwitches; ++i) {
    add_cable(spec, {kGpus + i, first_host + i / 2, rates.pcie_bytes_per_second,
                     rates.latency_seconds, "pcie"});
  }
  add_cable(spec, {first_host, first_host + 1, rates.socket_bytes_per_second,
                   rates.latency_seconds, "qpi"});
  return spec;
}

Topology::Spec pcie_box(const PcieBox& box) {
  Topology::Spec spec;
  add_vertices(spec, VertexKind::rank, "gpu", kGpus);
  add_vertices(spec, VertexKind::host, "cpu", kSockets);
  if (box.switches) add_vertices(spec, VertexKind::switch_, "pcie", kSockets);
  const int parents = kGpus + (box.switches ? kSockets : 0);
  for (int gpu = 0; gpu < kGpus; ++gpu) {
    add_cable(spec, {gpu, parents + gpu / (kGpus / kSockets),
                     box.pcie_bytes_per_second, box.latency_seconds, "pcie"});
  }
  for (int i = 0; box.switches && i < kSockets; ++i) {
    add_cable(spec, {parents + i, kGpus + i, box.pcie_bytes_per_second,
                     box.latency_seconds, "pcie"});
  }
  add_cable(spec, {kGpus, kGpus + 1, box.socket_bytes_per_second,
                   box.latency_seconds, "upi"});
  return spec;
}

}  // namespace ringweave::topology
