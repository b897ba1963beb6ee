#include "ringweave/schedule/demand.h"

#include <algorithm>
#include <utility>

#include "ringweave/base/error.h"

namespace ringweave::schedule {
namespace {

bool sees_all(const Mask& mask) { return !mask.is_causal() && mask.is_plain(); }

}  // namespace

AttentionDemand::AttentionDemand(Layout q_layout, Layout kv_layout, Mask mask)
    : q_layout_(std::move(q_layout)),
      kv_layout_(std::move(kv_layout)),
      mask_(std::move(mask)) {
  require(
      q_layout_.ranks() == kv_layout_.ranks(),
      "[attention] got a layout of {} ranks for queries and of {} for keys; "
      "want the same",
      q_layout_.ranks(), kv_layout_.ranks());
  require(sees_all(mask_) || q_layout_.tokens() == kv_layout_.tokens(),
          "[attention] got {} tokens of queries and {} of keys; want the same, "
          "or a full mask without window and documents",
          q_layout_.tokens(), kv_layout_.tokens());
  mask_.check_tokens(kv_layout_.tokens());
}

std::int64_t AttentionDemand::size(const BlockId& block, int strands) const {
  return kv_layout_.block_part(block.owner, block.strand, strands, block.part)
      .positions.length;
}

bool AttentionDemand::needs(Rank rank, const BlockId& block,
                            int strands) const {
  const Run keys =
      kv_layout_.block_part(block.owner, block.strand, strands, block.part)
          .positions;
  return sees_any(rank, keys);
}

Strands AttentionDemand::strands_needed(Rank rank, Rank owner, int part,
                                        int strands) const {
  const Run& keys = kv_layout_.runs(owner)[part];
  if (!sees_any(rank, keys)) return Strands::none;
  if (keys.length < strands) return Strands::some;  // some are empty
  if (schedule::sees_all(mask_)) return Strands::all;
  // A query that sees every key sees some of each strand.
  const auto sees_all = [&](std::int64_t query) {
    const Range seen = mask_.visible_keys(query, kv_layout_.tokens());
    return seen.begin <= keys.begin && keys.end() <= seen.end;
  };
  const std::vector<Run>& queries = q_layout_.runs(rank);
  const bool all =
      std::any_of(queries.begin(), queries.end(), [&](const Run& run) {
        return run.length > 0 &&
               (sees_all(run.begin) || sees_all(run.end() - 1));
      });
  return all ? Strands::all : Strands::some;
}

bool AttentionDemand::sees_any(Rank rank, const Run& keys) const {
  if (keys.length == 0) return false;
  const std::vector<Run>& queries = q_layout_.runs(rank);
  if (sees_all(mask_)) {
    return std::any_of(queries.begin(), queries.end(),
                       [](const Run& run) { return run.length > 0; });
  }
  return std::any_of(queries.begin(), queries.end(), [&](const Run& run) {
    return mask_.any_visible(run, keys, kv_layout_.tokens());
  });
}

}  // namespace ringweave::schedule
