#include "ringweave/schedule/demand.h"

#include <algorithm>
#include <utility>

#include "ringweave/base/error.h"

namespace ringweave::schedule {
namespace {

/// Which rows see a run of keys, and whether these see all of it.
struct View {
  std::vector<Range> rows;
  bool whole = true;
  friend bool operator==(const View&, const View&) = default;
};

View view_of(const std::vector<Area>& areas, const Run& keys) {
  View view;
  for (const Area& area : areas) {
    view.rows.push_back(area.rows);
    view.whole = view.whole && area.kind == Area::Kind::full &&
                 area.keys == Range{0, keys.length};
  }
  return view;
}

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
  require(mask_.is_full() || q_layout_.tokens() == kv_layout_.tokens(),
          "[attention] got {} tokens of queries and {} of keys; want the same, "
          "or a full mask without window and documents",
          q_layout_.tokens(), kv_layout_.tokens());
  mask_.check_tokens(kv_layout_.tokens());
}

std::int64_t AttentionDemand::size(const BlockId& block, int strands) const {
  return positions(block, strands).length;
}

bool AttentionDemand::needs(Rank rank, const BlockId& block,
                            int strands) const {
  return sees_any(rank, positions(block, strands));
}

Strands AttentionDemand::strands_needed(Rank rank, Rank owner, int part,
                                        int strands) const {
  const Run& keys = kv_layout_.runs(owner)[part];
  if (!sees_any(rank, keys)) return Strands::none;
  if (keys.length < strands) return Strands::some;  // some are empty
  if (mask_.is_full()) return Strands::all;
  // A query that sees every key sees some of each strand. If any does, the
  // first or the last one of a run does.
  const auto sees_every_key = [&](const Run& queries) {
    for (const Area& area : mask_.areas(queries, keys)) {
      const std::int64_t last = area.rows.size() - 1;
      if (area.keys == Range{0, keys.length} &&
          (area.seen(0) == area.keys || area.seen(last) == area.keys)) {
        return true;
      }
    }
    return false;
  };
  return std::ranges::any_of(q_layout_.runs(rank), sees_every_key)
             ? Strands::all
             : Strands::some;
}

bool AttentionDemand::side_by_side(Rank rank, const BlockId& block,
                                   int strands) const {
  if (rank == block.owner || block.part + 1 >= parts(block.owner)) return true;
  const auto view = [&](int part) {
    const Run keys = positions({block.owner, block.strand, part}, strands);
    return view_of(areas(rank, keys), keys);
  };
  return view(block.part) == view(block.part + 1);
}

Strands AttentionDemand::strands_side_by_side(Rank rank, Rank owner,
                                              int part) const {
  if (rank == owner || part + 1 >= parts(owner)) return Strands::all;
  const Run& keys = kv_layout_.runs(owner)[part];
  const Run& next = kv_layout_.runs(owner)[part + 1];
  const View view = view_of(areas(rank, keys), keys);
  const View next_view = view_of(areas(rank, next), next);
  // Then strands are seen as the whole run is. An empty strand is not, but it
  // is in no message either.
  if (!view.whole || !next_view.whole) return Strands::some;
  return view == next_view ? Strands::all : Strands::none;
}

std::vector<Area> AttentionDemand::areas(Rank rank, const Run& keys) const {
  std::vector<Area> areas;
  std::int64_t local = 0;
  for (const Run& queries : q_layout_.runs(rank)) {
    const std::size_t first = areas.size();
    mask_.add_areas(queries, keys, areas);
    for (std::size_t i = first; i < areas.size(); ++i) {
      areas[i].rows = moved(areas[i].rows, local);
    }
    local += queries.length;
  }
  join_areas(areas);
  return areas;
}

Run AttentionDemand::positions(const BlockId& block, int strands) const {
  return kv_layout_.block_part(block.owner, block.strand, strands, block.part)
      .positions;
}

bool AttentionDemand::sees_any(Rank rank, const Run& keys) const {
  if (keys.length == 0) return false;
  return std::ranges::any_of(q_layout_.runs(rank), [&](const Run& queries) {
    return queries.length > 0 &&
           (mask_.is_full() || mask_.any_visible(queries, keys));
  });
}

}  // namespace ringweave::schedule
