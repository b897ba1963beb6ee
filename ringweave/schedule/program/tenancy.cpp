#include "ringweave/schedule/program/tenancy.h"

#include <algorithm>
#include <optional>

#include "ringweave/base/error.h"

namespace ringweave::schedule {
namespace {

class SlotPlayer {
 public:
  SlotPlayer(const Schedule& part, Rank rank)
      : part_(part), rank_(rank), waits_(part.steps + 1) {
    const std::size_t transfers = part.transfers.size();
    for (auto* list :
         {&result_.of_source, &result_.of_target, &result_.of_sum}) {
      list->assign(transfers, Tenancies::kNobody);
    }
    for (auto* list : {&result_.of_keys, &result_.of_gradient}) {
      list->assign(part.tiles.size(), Tenancies::kNobody);
    }
    for (std::size_t i = 0; i < transfers; ++i) {
      const Transfer& transfer = part.transfers[i];
      if (transfer.to == rank && transfer.payload == Payload::kv_grad) {
        waits_.at(transfer.wait_step).push_back(i);
      }
    }
    if (part.pass == Pass::forward) return;
    for (const Tile& tile : part.tiles) {
      if (tile.rank == rank) tiles_.push_back(&tile);
    }
    std::ranges::sort(tiles_, {}, &block_of);
  }

  Tenancies play() {
    if (part_.pass == Pass::backward) {
      for (const Retained& kept : part_.retained) {
        if (kept.rank == rank_)
          retain(enter(Payload::kv, kept.slot, kept.block, 0), kept.block);
      }
    }
    std::size_t transfer = 0;
    std::size_t tile = 0;
    for (int step = 0; step <= part_.steps; ++step) {
      for (const std::size_t i : waits_[step]) add(i, step);
      const std::size_t first = transfer;
      while (transfer < part_.transfers.size() &&
             part_.transfers[transfer].post_step == step) {
        send(transfer++);
      }
      for (std::size_t i = first; i < transfer; ++i) receive(i);
      for (; tile < part_.tiles.size() && part_.tiles[tile].step == step;
           ++tile) {
        compute(tile);
      }
    }
    if (part_.pass == Pass::forward) {
      for (const Retained& kept : part_.retained) {
        if (kept.rank != rank_) continue;
        const int tenancy = holder(kept_, kept.slot, kept.block);
        retain(tenancy, kept.block);
        result_.all[tenancy].end = part_.steps + 1;
      }
    }
    return std::move(result_);
  }

 private:
  static const BlockId& block_of(const Tile* tile) { return tile->block; }

  const Tile* tile_of(const BlockId& block) const {
    const auto found = std::ranges::lower_bound(tiles_, block, {}, &block_of);
    return found != tiles_.end() && (*found)->block == block ? *found : nullptr;
  }

  static bool holds(const Tenancy& tenancy, const BlockId& block) {
    return tenancy.block.owner == block.owner &&
           tenancy.block.strand == block.strand;
  }

  static Tenant* find(Tenancy& tenancy, int part) {
    const auto found = std::ranges::find(tenancy.tenants, part, &Tenant::part);
    return found == tenancy.tenants.end() ? nullptr : &*found;
  }

  /// Where the part is.
  int holder(Payload payload, int slot, const BlockId& block) {
    const auto found = current_.find({payload, slot});
    require(found != current_.end() &&
                holds(result_.all[found->second], block) &&
                find(result_.all[found->second], block.part),
            "[schedule] got slot {} of {} on rank {} without part {} of strand "
            "{} of rank {}, which is taken from it; want a valid schedule",
            slot, name(payload), rank_, block.part, block.strand, block.owner);
    return found->second;
  }

  /// The tenancy that the part enters in `step`.
  int enter(Payload payload, int slot, const BlockId& block, int step) {
    const auto [found, first] =
        current_.try_emplace({payload, slot}, Tenancies::kNobody);
    int& index = found->second;
    if (first || !holds(result_.all[index], block)) {
      index = static_cast<int>(result_.all.size());
      result_.all.push_back({.payload = payload,
                             .slot = slot,
                             .block = {block.owner, block.strand, 0},
                             .begin = step,
                             .end = step + 1});
    }
    Tenancy& tenancy = result_.all[index];
    if (!find(tenancy, block.part)) {
      tenancy.tenants.push_back(
          {.part = block.part, .size = block_size(part_, block)});
      std::ranges::sort(tenancy.tenants, {}, &Tenant::part);
    }
    return index;
  }

  void stay(int tenancy, int until) {
    int& end = result_.all[tenancy].end;
    end = std::max(end, until);
  }

  void retain(int tenancy, const BlockId& block) {
    find(result_.all[tenancy], block.part)->retained = true;
  }

  void send(std::size_t index) {
    const Transfer& transfer = part_.transfers[index];
    if (transfer.from != rank_ || transfer.source_slot == kOwn) return;
    const int tenancy =
        holder(transfer.payload, transfer.source_slot, transfer.block);
    stay(tenancy, transfer.wait_step);
    result_.of_source[index] = tenancy;
  }

  void receive(std::size_t index) {
    const Transfer& transfer = part_.transfers[index];
    if (transfer.to != rank_) return;
    const int tenancy = enter(transfer.payload, transfer.slot, transfer.block,
                              transfer.post_step);
    stay(tenancy, transfer.wait_step);
    result_.of_target[index] = tenancy;
    if (transfer.action == Action::add) {
      result_.all[tenancy].staging = true;
    } else if (transfer.payload == Payload::kv_grad) {
      copies_.emplace(transfer.block, transfer.slot);
    }
  }

  void add(std::size_t index, int step) {
    const Transfer& transfer = part_.transfers[index];
    if (transfer.action != Action::add) return;
    const BlockId& block = transfer.block;
    const auto copy = copies_.find(block);
    const std::optional<int> slot =
        sum_slot(block.owner == rank_, tile_of(block),
                 copy == copies_.end() ? std::optional<int>() : copy->second);
    require(slot.has_value(),
            "[schedule] got a gradient of part {} of strand {} of rank {} on "
            "rank {}, which has none to add it to; want a valid schedule",
            block.part, block.strand, block.owner, rank_);
    if (*slot == kOwn) return;
    const int tenancy = holder(Payload::kv_grad, *slot, block);
    stay(tenancy, step);
    result_.of_sum[index] = tenancy;
  }

  void compute(std::size_t index) {
    const Tile& tile = part_.tiles[index];
    if (tile.rank != rank_) return;
    if (tile.slot != kOwn) {
      const int keys = holder(Payload::kv, tile.slot, tile.block);
      stay(keys, tile.step + 1);
      find(result_.all[keys], tile.block.part)->tile_step = tile.step;
      result_.of_keys[index] = keys;
    }
    if (part_.pass == Pass::backward && tile.grad_slot != kOwn) {
      const int gradient =
          enter(Payload::kv_grad, tile.grad_slot, tile.block, tile.step);
      find(result_.all[gradient], tile.block.part)->tile_step = tile.step;
      result_.of_gradient[index] = gradient;
    }
  }

  /// Of what is retained: a schedule brings keys and values, or summaries.
  static Payload kept_payload(const Schedule& part) {
    const bool summaries = !part.transfers.empty() &&
                           part.transfers[0].payload == Payload::summary;
    return summaries ? Payload::summary : Payload::kv;
  }

  const Schedule& part_;
  const Rank rank_;
  const Payload kept_ = kept_payload(part_);
  std::vector<std::vector<std::size_t>> waits_;  // [step]: of gradients
  std::vector<const Tile*> tiles_;               // backward: by block
  std::map<BlockId, int> copies_;  // slots where copies of gradients land
  std::map<std::pair<Payload, int>, int> current_;  // (payload, slot) → tenancy
  Tenancies result_;
};

}  // namespace

Tenancies tenancies_of(const Schedule& part, Rank rank) {
  return SlotPlayer(part, rank).play();
}

}  // namespace ringweave::schedule
