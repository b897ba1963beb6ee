#include "ringweave/attention/work.h"

#include "ringweave/base/error.h"

namespace ringweave::attention {
namespace {

/// The keys that each of the rank's queries sees, in the order of its tokens.
std::vector<Range> row_intervals(const schedule::AttentionDemand& demand,
                                 Rank rank, const schedule::Run& keys) {
  const schedule::Mask& mask = demand.mask();
  const bool plain = mask.is_plain();
  std::vector<Range> rows;
  for (const schedule::Run& queries : demand.q_layout().runs(rank)) {
    const bool sees_all =
        plain && (!mask.is_causal() || keys.end() - 1 <= queries.begin);
    const auto intervals =
        sees_all ? std::vector<Range>(queries.length, Range{0, keys.length})
                 : mask.intervals(queries, keys, demand.kv_layout().tokens());
    rows.insert(rows.end(), intervals.begin(), intervals.end());
  }
  return rows;
}

/// Joins the own parts of one run into one piece of work when all of its
/// strands are computed in the same step, as every generator has it: fewer and
/// larger tiles.
std::vector<TileWork> join_own(std::vector<TileWork> works,
                               const schedule::Layout& layout, Rank rank) {
  std::vector<TileWork> joined;
  std::map<int, std::vector<TileWork>> own;
  for (TileWork& work : works) {
    if (work.own) {
      own[work.block.part].push_back(std::move(work));
    } else {
      joined.push_back(std::move(work));
    }
  }
  for (auto& [part, pieces] : own) {
    std::int64_t tokens = 0;
    for (const TileWork& piece : pieces) tokens += piece.local.length;
    if (tokens == layout.runs(rank)[part].length) {
      TileWork whole = pieces.front();
      whole.local = layout.block_part(rank, 0, 1, part).local;
      pieces = {whole};
    }
    joined.insert(joined.begin(), pieces.begin(), pieces.end());
  }
  return joined;
}

/// Positions of the keys at `local` among the owner's tokens.
schedule::Run positions_of(const schedule::Layout& layout, const TileWork& work,
                           int strands) {
  const auto part = layout.block_part(work.block.owner, work.block.strand,
                                      strands, work.block.part);
  if (part.local == work.local) return part.positions;
  return layout.runs(work.block.owner)[work.block.part];
}

}  // namespace

PassWork make_pass_work(const schedule::Schedule& part, Rank rank,
                        const schedule::AttentionDemand& demand, int strands) {
  const schedule::Layout& layout = demand.kv_layout();
  PassWork work;
  for (const schedule::Block& block : part.blocks) {
    work.places[block.id] = {schedule::part_offset(part, block.id), block.size};
  }
  work.steps.resize(part.steps);
  for (const schedule::Tile& tile : part.tiles) {
    if (tile.rank != rank) continue;
    const schedule::BlockId& id = tile.block;
    work.steps.at(tile.step).push_back(
        {id,
         id.owner == rank && tile.slot == schedule::kOwn,
         layout.block_part(id.owner, id.strand, strands, id.part).local,
         tile.slot,
         tile.grad_slot,
         work.places.at(id),
         {}});
    work.grad_slots[id] = tile.grad_slot;
  }
  for (const schedule::Transfer& transfer : part.transfers) {
    if (transfer.to == rank && transfer.payload == schedule::Payload::kv_grad &&
        transfer.action == schedule::Action::copy) {
      work.grad_slots.emplace(transfer.block, transfer.slot);
    }
  }
  for (auto& step : work.steps) {
    step = join_own(std::move(step), layout, rank);
    for (TileWork& tile_work : step) {
      tile_work.tiles = local_tiles(row_intervals(
          demand, rank, positions_of(layout, tile_work, strands)));
    }
  }
  return work;
}

}  // namespace ringweave::attention
