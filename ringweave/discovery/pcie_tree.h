// PCIe switches and hosts, grown from how near devices are to each other.
#pragma once

#include <string>
#include <vector>

#include "ringweave/discovery/class_rates.h"
#include "ringweave/topology/topology.h"

namespace ringweave::discovery {

/// How two devices are joined, from near to far.
enum class Nearness {
  one_switch,
  switches,
  bridge,   ///< a host bridge
  host,     ///< several of one socket
  sockets,  ///< the link between two sockets
  hidden,   ///< not told
};

/// What a table tells: GPUs first, then what is no vertex but helps to tell the
/// tree.
struct Devices {
  int gpus = 0;
  std::vector<std::vector<Nearness>> nearness;  ///< by device, both ways
  /// Of GPUs: equal texts, equal sockets; empty: not told. Where it starts with
  /// a number, neighbours have near ones.
  std::vector<std::string> affinity;
};

/// What the links of each Nearness but `hidden` are called.
using PcieClasses = std::vector<std::string>;

/// Adds switches, hosts and links to `spec`, whose vertices are the GPUs so
/// far. What is joined as one_switch or nearer hangs below one vertex, and so
/// on; sockets are joined pairwise. Where that gives more than two sockets,
/// which few machines have, the affinity decides, and without it the GPUs are
/// taken for two sockets in order. Returns a note of what was assumed, or "".
std::string add_pcie_tree(topology::Topology::Spec& spec,
                          const Devices& devices, const PcieClasses& classes,
                          const ClassRates& rates);

}  // namespace ringweave::discovery
