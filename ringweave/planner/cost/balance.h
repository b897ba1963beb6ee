// How evenly a layout and a mask deal tokens and work out to the ranks.
#pragma once

#include <cstdint>

#include "ringweave/schedule/layout/layout.h"
#include "ringweave/schedule/mask/mask.h"

namespace ringweave::planner {

std::int64_t longest_shard(const schedule::Layout& layout);
std::int64_t shortest_shard(const schedule::Layout& layout);
/// Whether shards are as long as rounding allows: those of the named layouts
/// differ by up to two tokens, one for each run of a zigzag shard.
bool has_even_shards(const schedule::Layout& layout);

/// Whether every rank has the same work, to rounding: what closed forms want.
bool is_balanced(const schedule::Layout& layout, const schedule::Mask& mask);

/// The smallest share, over ranks, of the other ranks' keys that a rank needs.
/// Wants a balanced layout. Under a causal mask on zigzag shards it is a half:
/// the last rank's queries lie in the middle of the sequence, and see the first
/// half of each shard.
double least_need(const schedule::Layout& layout, const schedule::Mask& mask);

}  // namespace ringweave::planner
