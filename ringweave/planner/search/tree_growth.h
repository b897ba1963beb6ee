// Grows one tree for each strand of each owner, all at once and step by step.
#pragma once

#include <optional>

#include "ringweave/schedule/strategy/trees.h"
#include "ringweave/topology/tree_packing.h"

namespace ringweave::planner {

struct GrowthOptions {
  /// Steps' worth of room that each edge has beyond the graph's steps.
  int spare_steps = 0;
  /// Take no hop after which the trees could no longer be completed within the
  /// edges' room, by maximum flows. If not, edges have any room.
  bool proven = true;
};

/// In every step each rank takes as many strands as its edges carry, the rarest
/// first: those that the fewest ranks have. nullopt if the trees block each
/// other, or take more than `most_steps`.
std::optional<schedule::Trees> grow_trees(const topology::StepGraph& graph,
                                          const GrowthOptions& options,
                                          int most_steps);

}  // namespace ringweave::planner
