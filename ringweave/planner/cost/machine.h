// The machine that a plan is for.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "ringweave/topology/fabric.h"
#include "ringweave/topology/topology.h"

namespace ringweave::planner {

/// A machine: all its links, or a regular fabric too large for that.
struct Machine {
  std::string name;
  std::string hash;  ///< of what it is made of; equal for equal machines
  std::shared_ptr<const topology::Topology> topology;  ///< null: fabric only
  std::optional<topology::Fabric> fabric;

  int ranks() const { return topology ? topology->ranks() : fabric->ranks; }
  int nodes() const { return topology ? topology->nodes() : fabric->nodes; }
};

/// Fabrics of more ranks stay symbolic.
inline constexpr int kMaxExpandedRanks = 128;

/// Most ranks of a machine that is no regular fabric: routes between all pairs
/// take memory and time.
inline constexpr int kMaxPlannedRanks = 512;

/// A file or a name, as topology::load_topology takes it; throws as that does,
/// and InvalidArgument if it has too many ranks for a plan.
Machine load_machine(const std::string& name_or_path);

}  // namespace ringweave::planner
