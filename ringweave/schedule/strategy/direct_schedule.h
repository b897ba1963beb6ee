// Schedules in which every owner sends its block straight to the ranks that
// need it, and nothing is forwarded: direct in k strands, and all-gather.
//
// Direct forward, k + 1 steps: strand t goes out in step t and is computed in
// step t + 1, own blocks in step 0. Slots: two per peer, in turn; a slot holds
// C/k. Backward, k + 2 steps: nothing was kept, so strand t goes out again in
// step t, is computed in t + 1, and its gradient returns in t + 2 into a
// staging slot per peer; the owner adds in the order of the peers' ranks.
//
// All-gather forward, 2 steps: everything goes out in step 0 and is computed in
// step 1; a slot per peer, all kept for backward: (n-1)·C. Backward, 2 steps:
// others' blocks are computed in step 0; in step 1 their gradients return while
// the own block is computed.
//
// C per link at most, in every pass but all-gather's backward, which sends the
// gradients only.
#pragma once

#include <optional>

#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/schedule_builder.h"

namespace ringweave::schedule {

/// The part of one rank, or the whole schedule. strands >= 1.
void emit_direct(const Demand& demand, int strands, Pass pass,
                 std::optional<Rank> rank, ScheduleSink& sink);

/// `retain` false: forward keeps nothing.
void emit_all_gather(const Demand& demand, Pass pass, std::optional<Rank> rank,
                     bool retain, ScheduleSink& sink);

/// Forward only, payload summary, no tiles, a slot for every (owner, strand);
/// see rank_part_of_summaries(). Steps: strands + 1.
void emit_direct_summaries(const Demand& demand, int strands,
                           std::optional<Rank> rank, ScheduleSink& sink);

}  // namespace ringweave::schedule
