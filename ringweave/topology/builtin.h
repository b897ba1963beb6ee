// Topologies that need no file: regular fabrics, and machines by name.
//
//   const Topology node = builtin("mesh:ranks=8,rate=48e9,latency=1e-6");
//   const Topology machine = builtin("dgx-h100:nodes=2");
#pragma once

#include <string>
#include <vector>

#include "ringweave/topology/expand.h"
#include "ringweave/topology/topology.h"

namespace ringweave::topology {

/// A topology by name, with options after a colon: "mesh:ranks=8,rate=50e9",
/// "two_level:nodes=2,ranks=8,rate=400e9,nic=50e9", "8xMI300X",
/// "dgx-h100:nodes=2"; InvalidArgument names the nearest name or option.
/// Regular fabrics without a rate have one of 1e9 bytes per second.
Topology builtin(const std::string& text);

/// The same in symbolic form, without building the links, if it is a regular
/// fabric; nullopt if not.
std::optional<Fabric> builtin_fabric(const std::string& text);

struct BuiltinName {
  std::string name;
  std::string options;      ///< such as "ranks=8,rate=1e9,latency=0"
  std::string description;  ///< one line
  std::string source;       ///< of its figures; empty: none are published
};
std::vector<BuiltinName> builtin_names();

}  // namespace ringweave::topology
