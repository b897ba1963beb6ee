#include "ringweave/schedule/strategy/chain_schedule.h"

#include <algorithm>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/schedule/schedule_builder.h"

namespace ringweave::schedule {

ChainDemand::ChainDemand(ChainSpec spec)
    : spec_(std::move(spec)), order_(spec_.segments) {
  require(spec_.ranks >= 1, "[chain] got {} ranks; want at least 1",
          spec_.ranks);
  require(spec_.size >= 1, "[chain] got states of {} units; want at least 1",
          spec_.size);
  if (spec_.reverse) std::reverse(order_.begin(), order_.end());
  parts_.resize(spec_.ranks);
  places_.resize(spec_.ranks);
  const int count = static_cast<int>(order_.size());
  for (int place = 0; place < count; ++place) {
    const auto [rank, part] = order_[place];
    require(rank >= 0 && rank < spec_.ranks && part >= 0 && part < count,
            "[chain] got segment {} of rank {}; want ranks 0 … {} and segments "
            "0 … {}",
            part, rank, spec_.ranks - 1, count - 1);
    parts_[rank] = std::max(parts_[rank], part + 1);
    places_[rank].resize(parts_[rank], -1);
    require(places_[rank][part] < 0,
            "[chain] got segment {} of rank {} twice; want each once", part,
            rank);
    places_[rank][part] = place;
  }
}

std::optional<int> ChainDemand::place(const BlockId& block) const {
  if (block.strand != 0 || block.part >= parts_[block.owner]) return {};
  const int place = places_[block.owner][block.part];
  if (place < 0) return std::nullopt;
  return place;
}

std::int64_t ChainDemand::size(const BlockId& block, int strands) const {
  return place(block) ? spec_.size : 0;
}

bool ChainDemand::needs(Rank rank, const BlockId& block, int strands) const {
  const std::optional<int> at = place(block);
  if (!at || rank == block.owner) return false;
  const bool last = *at + 1 == static_cast<int>(order_.size());
  return last ? spec_.broadcast : order_[*at + 1].rank == rank;
}

Schedule chain_schedule(const ChainDemand& demand, std::optional<Rank> rank) {
  const std::vector<ChainSpec::Segment>& order = demand.order();
  const int count = static_cast<int>(order.size());
  require(!rank || (*rank >= 0 && *rank < demand.ranks()),
          "[chain] got rank {}; want 0 … {}", rank.value_or(0),
          demand.ranks() - 1);
  ScheduleBuilder builder(demand, 1, Pass::forward, std::max(count, 1));
  const auto send = [&](int place, Rank to, Action action, int slot) {
    const auto [from, part] = order[place];
    if (from == to || (rank && *rank != from && *rank != to)) return;
    builder.add(Transfer{from, to, BlockId{from, 0, part}, Payload::summary,
                         action, place, place + 1, kOwn, slot});
  };
  for (int place = 0; place + 1 < count; ++place) {
    const auto& next = order[place + 1];
    send(place, next.rank, Action::compose, next.part);
  }
  if (demand.spec().broadcast && count > 0) {
    for (Rank to = 0; to < demand.ranks(); ++to) {
      send(count - 1, to, Action::copy, count);
    }
  }
  return builder.finish();
}

}  // namespace ringweave::schedule
