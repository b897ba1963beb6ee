// How evenly a layout and a mask deal tokens and work out to the ranks.
#pragma once

#include <cstdint>

#include "ringweave/plan/tokens/layout.h"
#include "ringweave/plan/tokens/mask.h"

namespace ringweave::plan {

std::int64_t longest_shard(const Layout& layout);
std::int64_t shortest_shard(const Layout& layout);
/// Whether shards are as long as rounding allows: those of the named layouts
/// differ by up to two tokens, one for each run of a zigzag shard.
bool has_even_shards(const Layout& layout);

/// Whether every rank has the same work, to rounding: what closed forms want.
bool is_balanced(const Layout& layout, const Mask& mask);

/// Of a balanced layout: the share of others' keys that the rank needs which
/// needs least. Under a causal mask on zigzag shards the last rank's queries,
/// all in the middle, see the first half of each.
double least_need(const Layout& layout, const Mask& mask);

}  // namespace ringweave::plan
