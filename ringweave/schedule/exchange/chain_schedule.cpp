#include "ringweave/schedule/exchange/chain_schedule.h"

#include <algorithm>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/schedule/schedule_builder.h"

namespace ringweave::schedule {

ChainDemand::ChainDemand(StateDemand states, int strands)
    : ScanDemand(std::move(states), strands), places_of_(ranks()) {
  for (int place = 0; place < places(); ++place) {
    const auto [rank, part] = segment(place);
    const std::size_t count = places_of_[rank].size();
    places_of_[rank].resize(std::max<std::size_t>(count, part + 1), -1);
    places_of_[rank][part] = place;
  }
}

std::optional<int> ChainDemand::place(const BlockId& block) const {
  if (block.strand >= strands() || block.part >= parts(block.owner)) return {};
  const int place = places_of_[block.owner][block.part];
  if (place < 0 || rows(block.strand).empty()) return std::nullopt;
  return place;
}

std::optional<Composed> ChainDemand::content(const BlockId& block) const {
  const std::optional<int> at = place(block);
  if (!at) return std::nullopt;
  return Composed{{0, *at + 1}, block.strand};
}

bool ChainDemand::needs(Rank rank, const BlockId& block, int strands) const {
  const std::optional<int> at = place(block);
  if (!at || rank == block.owner) return false;
  const bool last = *at + 1 == places();
  return last ? broadcasts() : segment(*at + 1).rank == rank;
}

bool ChainDemand::broadcasts() const {
  return states().end_everywhere || !states().causal;
}

Schedule chain_schedule(const ChainDemand& demand, std::optional<Rank> rank) {
  const int count = demand.places();
  const int strands = demand.strands();
  require(!rank || (*rank >= 0 && *rank < demand.ranks()),
          "[chain] got rank {}; want 0 … {}", rank.value_or(0),
          demand.ranks() - 1);
  ScheduleBuilder builder(demand, strands, Pass::forward,
                          std::max(count + strands - 1, 1));
  // `slot`: of the first strand; the others follow.
  const auto send = [&](int place, Rank to, int slot) {
    const auto [from, part] = demand.segment(place);
    if (from == to || (rank && *rank != from && *rank != to)) return;
    for (int strand = 0; strand < strands; ++strand) {
      const BlockId block{from, strand, part};
      if (!demand.needs(to, block, strands)) continue;
      const int step = place + strand;
      const Action action = demand.action(demand.composed(block));
      builder.add(Transfer{from, to, block, Payload::summary, action, step,
                           step + 1, kOwn, slot + strand});
      if (!rank || *rank == to) builder.add(Retained{to, block, slot + strand});
    }
  };
  for (int place = 0; place + 1 < count; ++place) {
    const auto& next = demand.segment(place + 1);
    send(place, next.rank, next.part * strands);
  }
  if (demand.broadcasts() && count > 0) {
    for (Rank to = 0; to < demand.ranks(); ++to) {
      send(count - 1, to, count * strands);
    }
  }
  return builder.finish();
}

}  // namespace ringweave::schedule
