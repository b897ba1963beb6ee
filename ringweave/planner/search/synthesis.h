// Trees for machines of any shape, close to the lower bound.
//
//   const Trees trees = synthesise(topology::builtin("dgx-1"));
//   seconds(trees, topology, shard_bytes);  // beside topology::lower_bound
//
// One tree for each strand of each owner. All trees grow together, step by
// step; the links' shares come from topology/tree_packing.h (algorithm:
// docs/algorithms.md).
#pragma once

#include "ringweave/schedule/strategy/trees.h"
#include "ringweave/topology/topology.h"

namespace ringweave::planner {

struct SynthesisOptions {
  /// Most strands that a shard may be cut into. More come closer to the bound
  /// and cost more messages.
  int max_strands = 32;
  /// Into how many steps the links' time is divided at least: the transfers of
  /// a step hide behind what the step before has brought. 0: as many as a ring
  /// has, ranks - 1, but at most 8. At most 64.
  int min_steps = 0;
  /// Time over the lower bound at which the search ends.
  double target_ratio = 1.03;
};

/// Trees for shards of equal size, full demand. Depends on nothing but its
/// arguments, so all processes agree without a message. Up to 16 ranks take
/// seconds at most; beyond, packings are not proven while they grow, and may
/// stay further from the bound. Throws InvalidArgument for more than
/// topology::kMaxPackedRanks ranks, less than one strand, or ranks that can't
/// be reached; NoSolution if the topology's routes do not join all ranks.
schedule::Trees synthesise(const topology::Topology& topology,
                           const SynthesisOptions& options = {});

/// Time if each step starts when the one before has ended everywhere, without
/// latency: the sum over the steps of the busiest link's time.
double seconds(const schedule::Trees& trees, const topology::Topology& topology,
               double shard_bytes);

}  // namespace ringweave::planner
