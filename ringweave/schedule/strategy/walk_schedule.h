// Schedules in which blocks walk from rank to rank: ring, multi-ring,
// time-varying multi-ring, paths and rings, which differ in their Walks only.
//
// Below, w_t is where a block is after t hops, w_0 its owner, and w_e the last
// rank on its walk that needs the part. Parts are walked one by one, so a part
// that nobody needs further on is dropped on its own.
//
// Forward, n steps: hop t → t+1 is posted in step t and waited for in step t+1;
// w_t computes in step t. A part's walk ends at w_e. Slots: 2 per strand, in
// turn. Per link of a strand's walks (n-1)·C/strands.
//
// Backward, n steps, is forward reversed in time: w_t computes in step n-1-t.
// Keys and values hop from w_e towards the owner, down to the last rank that
// needs them, one step ahead of the computation; the growing gradients hop
// after it, one step behind, all the way to the owner, which adds last, in the
// wait after the last step. A rank that does not need a part only passes its
// gradient on. Slots of gradients: 3 per strand, one for staging and two
// accumulators in turn.
//
// Forward leaves a part that walked to the end (e = n-1) at w_e, where backward
// finds it: C per rank in all. A part that the mask cuts short is not kept: its
// owner sends it to w_e again, in time for w_e's step of backward. Keeping it
// would save those bytes, but some ranks would keep many such parts (with a
// causal mask on contiguous shards the last rank all of them).
#pragma once

#include <optional>

#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/schedule_builder.h"
#include "ringweave/schedule/strategy/walks.h"

namespace ringweave::schedule {

/// The part of one rank, or the whole schedule; walks.ranks() steps. `walks`
/// and `demand` have the same ranks. `retain` false: forward keeps nothing.
void emit_walks(const Walks& walks, const Demand& demand, Pass pass,
                std::optional<Rank> rank, bool retain, ScheduleSink& sink);

/// Forward only, payload summary, no tiles, a slot for every (owner, strand);
/// see rank_part_of_summaries().
void emit_walk_summaries(const Walks& walks, const Demand& demand,
                         std::optional<Rank> rank, ScheduleSink& sink);

}  // namespace ringweave::schedule
