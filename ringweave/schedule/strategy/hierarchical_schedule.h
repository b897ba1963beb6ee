// Schedules over nodes joined by rails: a slice of a shard goes from node to
// node on its owner's rail, and in each node the rank that it reaches, its
// holder, spreads it: straight to all peers (direct), or along the walks of the
// node, one strand each.
//
// Ranks are numbered node by node: rank (node k, local i) is k·m + i, with u
// nodes of m ranks. A shard is cut into slices · S strands, S = 1 with direct,
// else the number of inner walks; strand j·S + s is piece s of slice j. In
// phase p a block is in the p-th node from its owner's, held by the rank there
// with the owner's local number; D = steps of a spread (direct 1, walks m-1).
//
// Forward. Slice j goes over the rail from phase p to p+1 in turn p·slices + j,
// which is D steps long, is spread in the next turn, and computed wherever it
// arrives. Slice j of the own node is spread in turn j. So the rail is always
// busy, and only the last slice's spread is not hidden behind it.
// (u-1)C over each rank's rail; inside, u·C per link (one inner ring: u(m-1)C
// on one link).
//
// Backward, phases in reverse. Phase p of slice j takes turn
// (u-1-p)·slices + j. In that turn its holder spreads keys and values again.
// The gradients go home to the holder (direct: straight; walks: from rank to
// rank behind keys and values, and from the last one home), and it adds them
// up. From that turn on keys and values go over the rail to phase p-1, which
// waits for them half a shard's turns later. The sum goes over the rail as soon
// as it is complete. Phase p-1 waits for it a shard's turns later, when its own
// sum is complete; the owner, who passes nothing on, half a shard's turns later
// still. So a rank waits only if a rail is busy for that long. The own shard is
// computed in the last step, while the last gradients go home. Only the holder
// of phase u-1 keeps its shard after forward (C per rank). If the mask stops a
// part earlier, its owner sends it to the last node again, as in
// walk_schedule.h. Over each rail (u-2)C and (u-1)C of gradients; inside
// u(m-1)C per rank of each.
//
// Slots hold a slice each. Forward: slices + 1 on the rail; for the spread two,
// from the second node on four, per peer with direct. Backward, where the time
// that rails get costs slots: 3/2 · slices of keys on the rail,
// 5/4 · slices + 1 + 2/D of growing sums, as many as slices of arrived sums;
// for the spread two of keys and three of gradients per peer with direct, else
// two and four.
#pragma once

#include <memory>
#include <optional>

#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/schedule_builder.h"
#include "ringweave/schedule/strategy/walks.h"

namespace ringweave::schedule {

struct Hierarchy {
  int nodes = 1;
  int ranks_per_node = 1;
  int slices = 1;
  /// Of ranks_per_node ranks; nullptr: direct.
  std::shared_ptr<const Walks> inner = nullptr;

  int ranks() const { return nodes * ranks_per_node; }
  int inner_strands() const { return inner ? inner->strands() : 1; }
  int strands() const { return slices * inner_strands(); }
  int steps(Pass pass) const;
  /// D: steps of a spread, at least 1.
  int spread_steps() const;
};

/// The part of one rank, or the whole schedule. `demand` has the same ranks.
/// `retain` false: forward keeps nothing.
void emit_hierarchical(const Hierarchy& hierarchy, const Demand& demand,
                       Pass pass, std::optional<Rank> rank, bool retain,
                       ScheduleSink& sink);

/// Forward only, payload summary, no tiles, a slot for every (owner, strand);
/// see rank_part_of_summaries().
void emit_hierarchical_summaries(const Hierarchy& hierarchy,
                                 const Demand& demand, std::optional<Rank> rank,
                                 ScheduleSink& sink);

}  // namespace ringweave::schedule
