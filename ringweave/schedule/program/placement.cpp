#include "ringweave/schedule/program/placement.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <tuple>

#include "ringweave/base/error.h"

namespace ringweave::schedule {
namespace {

/// Slots that share memory, by union and find.
class Banks {
 public:
  explicit Banks(const std::map<int, std::int64_t>& slot_sizes)
      : slot_sizes_(slot_sizes) {
    for (const auto& [slot, size] : slot_sizes) parent_[slot] = slot;
  }

  void join(int a, int b) { parent_[find(a)] = find(b); }

  int find(int slot) {
    int& parent = parent_.at(slot);
    if (parent != slot) parent = find(parent);
    return parent;
  }

  struct Bank {
    std::int64_t begin = 0;
    std::int64_t size = 0;
    std::map<int, std::int64_t> slot_begin;
  };

  /// By the slot that find() gives; one after the other in memory.
  std::map<int, Bank> list() {
    std::map<int, Bank> banks;
    for (const auto& [slot, size] : slot_sizes_) {
      Bank& bank = banks[find(slot)];
      bank.slot_begin[slot] = bank.size;
      bank.size += size;
    }
    std::int64_t begin = 0;
    for (auto& [slot, bank] : banks) {
      bank.begin = begin;
      begin += bank.size;
    }
    return banks;
  }

 private:
  const std::map<int, std::int64_t>& slot_sizes_;
  std::map<int, int> parent_;
};

/// Consecutive tenants of a slot that lie side by side wherever they are: one
/// message may carry them.
struct Stretch {
  int tenancy = 0;
  std::size_t first = 0;  ///< index of its first tenant
  std::size_t count = 1;
  std::int64_t size = 0;
  bool kept = false;
  PlacementKey key = {};
  BlockId block;  ///< of its first tenant
};

bool before(const Stretch& a, const Stretch& b) {
  return std::tie(a.key, a.block) < std::tie(b.key, b.block);
}

/// Stretches that are placed side by side.
struct Group {
  int begin = 0;
  int end = 0;
  std::vector<Stretch> stretches;

  std::int64_t size() const {
    return std::accumulate(stretches.begin(), stretches.end(), std::int64_t{0},
                           [](std::int64_t sum, const Stretch& stretch) {
                             return sum + stretch.size;
                           });
  }
};

class Placer {
 public:
  Placer(const Schedule& part, Rank rank, const Tenancies& tenancies,
         const PlacementOrder& order)
      : part_(part), rank_(rank), tenancies_(tenancies), order_(order) {
    for (const Tenancy& tenancy : tenancies.all) {
      result_.places.emplace_back(tenancy.tenants.size());
    }
    for (std::size_t i = 0; i < tenancies.of_target.size(); ++i) {
      if (part.transfers[i].action == Action::add &&
          tenancies.of_target[i] != Tenancies::kNobody) {
        additions_[{tenancies.of_target[i], part.transfers[i].block.part}] = i;
      }
    }
  }

  Placement run(const std::map<BlockId, Place>& kept) {
    std::vector<Stretch> forward_kept;
    std::map<Payload, std::vector<Stretch>> scratch;
    std::map<Payload, std::vector<Stretch>> staging;
    for (int index = 0; index < static_cast<int>(tenancies_.all.size());
         ++index) {
      const Tenancy& tenancy = tenancies_.all[index];
      for (const Stretch& stretch : stretches_of(index)) {
        if (stretch.kept && !kept.empty()) {
          adopt(stretch, kept);
        } else if (stretch.kept) {
          forward_kept.push_back(stretch);
        } else {
          (tenancy.staging ? staging : scratch)[tenancy.payload].push_back(
              stretch);
        }
      }
    }
    place_kept(std::move(forward_kept));
    // Staging last: its order follows the places of what it is added to.
    for (auto& [payload, stretches] : scratch) {
      place_scratch(payload, stretches, staging[payload]);
    }
    for (auto& [payload, stretches] : staging) {
      if (!scratch.contains(payload)) place_scratch(payload, {}, stretches);
    }
    return std::move(result_);
  }

 private:
  const Tenancy& tenancy_of(const Stretch& stretch) const {
    return tenancies_.all[stretch.tenancy];
  }
  static BlockId block_of(const Tenancy& tenancy, const Tenant& tenant) {
    return {tenancy.block.owner, tenancy.block.strand, tenant.part};
  }

  std::vector<Stretch> stretches_of(int index) const {
    const Tenancy& tenancy = tenancies_.all[index];
    std::vector<Stretch> stretches;
    for (std::size_t i = 0; i < tenancy.tenants.size(); ++i) {
      const Tenant& tenant = tenancy.tenants[i];
      if (i > 0 && stretches.back().kept == tenant.retained &&
          tenancy.tenants[i - 1].part + 1 == tenant.part &&
          (!order_.side_by_side ||
           order_.side_by_side(block_of(tenancy, tenancy.tenants[i - 1])))) {
        ++stretches.back().count;
        stretches.back().size += tenant.size;
      } else {
        stretches.push_back({index, i, 1, tenant.size, tenant.retained,
                             key_of(tenancy, tenant),
                             block_of(tenancy, tenant)});
      }
    }
    return stretches;
  }

  PlacementKey key_of(const Tenancy& tenancy, const Tenant& tenant) const {
    if (tenant.tile_step >= 0 && order_.key) {
      return order_.key(block_of(tenancy, tenant));
    }
    PlacementKey last;
    last.fill(std::numeric_limits<std::int64_t>::max());
    return last;
  }

  void adopt(const Stretch& stretch, const std::map<BlockId, Place>& kept) {
    for (std::size_t i = stretch.first; i < stretch.first + stretch.count;
         ++i) {
      const Tenancy& tenancy = tenancy_of(stretch);
      const auto found = kept.find(block_of(tenancy, tenancy.tenants[i]));
      require(found != kept.end(),
              "[program] got a backward schedule that finds keys of rank {} "
              "retained; want one that finds what forward retains",
              tenancy.block.owner);
      result_.places[stretch.tenancy][i] = found->second;
    }
  }

  void put(const Stretch& stretch, Memory memory, std::int64_t begin) {
    for (std::size_t i = stretch.first; i < stretch.first + stretch.count;
         ++i) {
      const std::int64_t size = tenancy_of(stretch).tenants[i].size;
      result_.places[stretch.tenancy][i] = {memory, begin, size};
      begin += size;
    }
  }

  /// What is added side by side lies side by side; of what is added to one
  /// place the lowest sender's comes first.
  PlacementKey staging_key(const Stretch& stretch) const {
    const BlockId& block = stretch.block;
    const std::size_t transfer = additions_.at({stretch.tenancy, block.part});
    const Rank sender = part_.transfers[transfer].from;
    const int sum = tenancies_.of_sum[transfer];
    if (sum == Tenancies::kNobody) {  // the owner's, in the order of the block
      return {block.strand, block.part, sender, 0};
    }
    const auto& tenants = tenancies_.all[sum].tenants;
    const auto found = std::ranges::find(tenants, block.part, &Tenant::part);
    return {result_.places[sum][found - tenants.begin()].begin, sender, 0, 0};
  }

  void place_kept(std::vector<Stretch> stretches) {
    std::ranges::stable_sort(stretches, before);
    std::ranges::stable_sort(stretches, {}, [&](const Stretch& stretch) {
      return tenancy_of(stretch).tenants[stretch.first].tile_step;
    });
    for (const Stretch& stretch : stretches) {
      put(stretch, Memory::kept, result_.kept_size);
      result_.kept_size += stretch.size;
    }
  }

  std::vector<Group> groups_of(const std::vector<Stretch>& stretches) const {
    std::map<std::pair<int, int>, Group> groups;
    for (const Stretch& stretch : stretches) {
      const Tenancy& tenancy = tenancy_of(stretch);
      Group& group = groups[{tenancy.begin, tenancy.end}];
      group.begin = tenancy.begin;
      group.end = tenancy.end;
      group.stretches.push_back(stretch);
    }
    std::vector<Group> sorted;
    for (auto& [times, group] : groups) sorted.push_back(std::move(group));
    return sorted;
  }

  void place_scratch(Payload payload, const std::vector<Stretch>& stretches,
                     const std::vector<Stretch>& staging) {
    const std::map<int, std::int64_t> sizes = slot_sizes(part_, rank_, payload);
    Banks banks(sizes);
    std::vector<Group> groups = groups_of(stretches);
    const std::size_t first_staging = groups.size();
    for (Group& group : groups_of(staging)) groups.push_back(std::move(group));
    for (const Group& group : groups) {
      for (const Stretch& stretch : group.stretches) {
        banks.join(tenancy_of(stretch).slot,
                   tenancy_of(group.stretches[0]).slot);
      }
    }
    const auto bank_list = banks.list();
    // By bank: groups and whether they fit side by side.
    std::map<int, std::vector<std::size_t>> of_bank;
    for (std::size_t i = 0; i < groups.size(); ++i) {
      of_bank[banks.find(tenancy_of(groups[i].stretches[0]).slot)].push_back(i);
    }
    for (const bool stage : {false, true}) {
      for (const auto& [slot, members] : of_bank) {
        // A bank is of staging slots if its first group is: slots have one use.
        if ((members.front() >= first_staging) != stage) continue;
        place_bank(bank_list.at(slot), members, groups);
      }
    }
    for (const auto& [slot, size] : sizes) {
      result_.scratch_size[payload] += size;
    }
  }

  void place_bank(const Banks::Bank& bank,
                  const std::vector<std::size_t>& members,
                  std::vector<Group>& groups) {
    struct Taken {
      std::int64_t begin, end;
      int until;
    };
    std::vector<Taken> taken;
    std::vector<std::int64_t> begins;
    for (const std::size_t i : members) {
      const Group& group = groups[i];
      std::erase_if(taken,
                    [&](const Taken& it) { return it.until <= group.begin; });
      std::ranges::sort(taken, {}, &Taken::begin);
      std::int64_t begin = 0;
      for (const Taken& it : taken) {
        if (begin + group.size() <= it.begin) break;
        begin = std::max(begin, it.end);
      }
      if (begin + group.size() > bank.size) {
        return place_by_slot(bank, members, groups);
      }
      taken.push_back({begin, begin + group.size(), group.end});
      begins.push_back(begin);
    }
    for (std::size_t k = 0; k < members.size(); ++k) {
      Group& group = groups[members[k]];
      for (Stretch& stretch : group.stretches) {
        if (tenancy_of(stretch).staging) stretch.key = staging_key(stretch);
      }
      std::ranges::sort(group.stretches, before);
      std::int64_t begin = bank.begin + begins[k];
      for (const Stretch& stretch : group.stretches) {
        put(stretch, Memory::scratch, begin);
        begin += stretch.size;
      }
    }
  }

  /// The content of each slot at the slot's own place: always fits, and leaves
  /// no two slots' content side by side but by chance.
  void place_by_slot(const Banks::Bank& bank,
                     const std::vector<std::size_t>& members,
                     const std::vector<Group>& groups) {
    std::map<int, std::int64_t> filled;  // of each tenancy
    for (const std::size_t i : members) {
      for (const Stretch& stretch : groups[i].stretches) {
        std::int64_t& size = filled[stretch.tenancy];
        put(stretch, Memory::scratch,
            bank.begin + bank.slot_begin.at(tenancy_of(stretch).slot) + size);
        size += stretch.size;
      }
    }
  }

  const Schedule& part_;
  const Rank rank_;
  const Tenancies& tenancies_;
  const PlacementOrder& order_;
  // Transfers of gradients to add, by (tenancy, part).
  std::map<std::pair<int, int>, std::size_t> additions_;
  Placement result_;
};

}  // namespace

Placement place(const Schedule& part, Rank rank, const Tenancies& tenancies,
                const PlacementOrder& order,
                const std::map<BlockId, Place>& kept) {
  return Placer(part, rank, tenancies, order).run(kept);
}

}  // namespace ringweave::schedule
