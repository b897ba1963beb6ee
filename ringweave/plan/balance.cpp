#include "ringweave/plan/balance.h"

#include <algorithm>

namespace ringweave::plan {

std::int64_t longest_shard(const Layout& layout) {
  std::int64_t longest = 0;
  for (Rank rank = 0; rank < layout.ranks(); ++rank) {
    longest = std::max(longest, layout.shard_tokens(rank));
  }
  return longest;
}

bool is_balanced(const Layout& layout, const Mask& mask) {
  if (!mask.is_plain()) return false;
  return !mask.is_causal() || layout.kind() == Layout::Kind::zigzag ||
         layout.kind() == Layout::Kind::striped;
}

}  // namespace ringweave::plan
