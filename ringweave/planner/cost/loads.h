// How long regular patterns of transfers keep the busiest link, on a topology
// with all its links or on a regular fabric in symbolic form.
//
// The closed forms (closed_form.h) are made of them: if all ranks do the same
// at the same time, a step takes as long as its busiest link is loaded.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "ringweave/planner/cost/cost.h"
#include "ringweave/planner/cost/machine.h"
#include "ringweave/topology/fabric.h"

namespace ringweave::planner {

/// Of one byte per message; scales and adds up link by link.
struct Load {
  std::vector<double> link_seconds;  ///< by resource
  LinkClassBytes bytes;

  double seconds() const;
  Load& operator+=(const Load& other);
  Load operator*(double factor) const;
};

class Loads {
 public:
  /// Of a topology; keeps the network by reference.
  explicit Loads(const Network& network);
  /// Of a regular fabric, without its links. Ring and torus count the mean load
  /// of a dimension's links. Throws InvalidArgument for a fabric that makes no
  /// sense.
  explicit Loads(const topology::Fabric& fabric);

  int ranks() const { return ranks_; }
  /// Ranks of a node; all of them if there is one node, or nodes differ.
  int ranks_per_node() const { return ranks_per_node_; }
  /// Of the slowest route.
  double latency() const { return latency_; }
  /// Of the slowest route inside groups of `group` consecutive ranks: a node's,
  /// or all of them.
  double latency(int group) const;
  /// Bytes per second of all links into the best connected rank.
  double best_in_rate() const;

  /// Every rank sends to every other of its group of `group` consecutive
  /// ranks; group = ranks() is all to all.
  Load pairs(int group) const;
  /// The last rank sends to every other.
  Load from_last() const;
  /// Every rank sends to the one `distance` further on, round the end of its
  /// group of `group` consecutive ranks. 0 < distance < group.
  Load shift(int distance, int group) const;
  /// Each pair sends. Only of a topology (InternalError).
  Load messages(const std::vector<std::pair<Rank, Rank>>& pairs) const;
  bool symbolic() const { return network_ == nullptr; }

 private:
  Load two_level_shift(int distance, int group) const;

  const Network* network_ = nullptr;
  std::optional<topology::Fabric> fabric_;
  int ranks_ = 1;
  int ranks_per_node_ = 1;
  double latency_ = 0;
};

/// A machine's loads, and its network if all its links are known.
class MachineLoads {
 public:
  /// Keeps the machine's topology by reference.
  explicit MachineLoads(const Machine& machine);
  MachineLoads(const MachineLoads&) = delete;  // loads_ points at network_
  MachineLoads& operator=(const MachineLoads&) = delete;

  /// Null: a fabric in symbolic form.
  const Network* network() const { return network_ ? &*network_ : nullptr; }
  const Loads& loads() const { return *loads_; }

 private:
  std::optional<Network> network_;
  std::optional<Loads> loads_;
};

}  // namespace ringweave::planner
