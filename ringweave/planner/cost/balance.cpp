#include "ringweave/planner/cost/balance.h"

#include <algorithm>

namespace ringweave::planner {

std::int64_t longest_shard(const schedule::Layout& layout) {
  std::int64_t longest = 0;
  for (Rank rank = 0; rank < layout.ranks(); ++rank) {
    longest = std::max(longest, layout.shard_tokens(rank));
  }
  return longest;
}

std::int64_t shortest_shard(const schedule::Layout& layout) {
  std::int64_t shortest = layout.tokens();
  for (Rank rank = 0; rank < layout.ranks(); ++rank) {
    shortest = std::min(shortest, layout.shard_tokens(rank));
  }
  return shortest;
}

bool has_even_shards(const schedule::Layout& layout) {
  constexpr std::int64_t kRounding = 2;
  return longest_shard(layout) - shortest_shard(layout) <= kRounding;
}

bool is_balanced(const schedule::Layout& layout, const schedule::Mask& mask) {
  if (!mask.is_plain() || !has_even_shards(layout)) return false;
  return !mask.is_causal() || layout.kind() == schedule::Layout::Kind::zigzag ||
         layout.kind() == schedule::Layout::Kind::striped;
}

double least_need(const schedule::Layout& layout, const schedule::Mask& mask) {
  constexpr double kHalf = 0.5;
  return mask.is_causal() && layout.kind() == schedule::Layout::Kind::zigzag
             ? kHalf
             : 1;
}

}  // namespace ringweave::planner
