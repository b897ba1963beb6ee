// Machines that are no regular fabric, link by link, from published figures.
#pragma once

#include "ringweave/topology/topology.h"

namespace ringweave::topology {

/// NVIDIA DGX-1 with 8 V100: the hybrid cube mesh of NVLinks, and below it the
/// PCIe tree: four PCIe switches with two GPUs each, two CPU sockets, QPI.
struct CubeMeshRates {
  double nvlink_bytes_per_second = 25e9;  ///< of one NVLink; pairs have 1 or 2
  double pcie_bytes_per_second = 15.75e9;
  double socket_bytes_per_second = 38.4e9;
  double latency_seconds = 0;  ///< of every link
};
Topology::Spec cube_mesh(const CubeMeshRates& rates);

/// 8 GPUs on PCIe, four to each of two CPU sockets.
struct PcieBox {
  /// Whether a PCIe switch with one uplink stands between a socket and its
  /// GPUs, instead of a root port per GPU.
  bool switches = false;
  double pcie_bytes_per_second = 31.5e9;
  double socket_bytes_per_second = 44.8e9;
  double latency_seconds = 0;  ///< of every link
};
Topology::Spec pcie_box(const PcieBox& box);

}  // namespace ringweave::topology
