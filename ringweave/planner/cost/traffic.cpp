#include "ringweave/planner/cost/traffic.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "ringweave/base/error.h"

namespace ringweave::planner {
namespace {

/// Cells of the table of (step, from, to) that is kept instead of a hash map.
constexpr std::size_t kDenseCells = std::size_t{1} << 22;

}  // namespace

double Traffic::compute_seconds(Rank rank) const {
  double seconds = 0;
  for (int step = 0; step < steps; ++step) {
    seconds += step_seconds[static_cast<std::size_t>(step) * ranks + rank];
  }
  return seconds;
}

TrafficCollector::TrafficCollector(const schedule::Demand& demand, int strands,
                                   int steps, const Workload& workload)
    : workload_(workload), strands_(strands) {
  const int n = demand.ranks();
  const auto cells = static_cast<std::size_t>(n);
  traffic_.ranks = n;
  traffic_.steps = steps;
  traffic_.step_seconds.resize(cells * steps);
  traffic_.slot_bytes.resize(cells);
  traffic_.retained_bytes.resize(cells);
  for (const auto& [payload, bytes] : workload.unit_bytes) {
    bytes_of_[static_cast<int>(payload)] = static_cast<double>(bytes);
  }
  for (auto& slots : slots_) slots.resize(cells);
  for (Rank owner = 0; owner < n; ++owner) {
    first_part_.push_back(sizes_.size());
    for (int strand = 0; strand < strands; ++strand) {
      for (int part = 0; part < demand.parts(owner); ++part) {
        sizes_.push_back(demand.size({owner, strand, part}, strands));
      }
    }
  }
  first_part_.push_back(sizes_.size());
  if (cells * cells * steps <= kDenseCells) {
    newest_table_.resize(cells * cells * steps);
  }
}

std::size_t TrafficCollector::part_of(const schedule::BlockId& block) const {
  const std::size_t begin = first_part_[block.owner];
  const std::size_t parts = (first_part_[block.owner + 1] - begin) /
                            static_cast<std::size_t>(strands_);
  return begin + block.strand * parts + block.part;
}

double TrafficCollector::size(const schedule::BlockId& block) const {
  return static_cast<double>(sizes_[part_of(block)]);
}

// Up to the end of the part in its packed strand.
double TrafficCollector::extent(const schedule::BlockId& block) const {
  double units = 0;
  for (int part = 0; part <= block.part; ++part) {
    units += size({block.owner, block.strand, part});
  }
  return units;
}

void TrafficCollector::hold(Rank rank, schedule::Payload payload, int slot,
                            double extent) {
  std::vector<double>& slots = slots_[static_cast<int>(payload)][rank];
  if (slots.size() <= static_cast<std::size_t>(slot)) slots.resize(slot + 1);
  slots[slot] = std::max(slots[slot], extent);
}

void TrafficCollector::hold_arrivals() {
  for (const Arrival& arrival : arrivals_) {
    if (!retained_.contains(key_of(arrival.rank, arrival.part))) {
      hold(arrival.rank, schedule::Payload::kv, arrival.slot, arrival.extent);
    }
  }
}

// Flows that differ in the wait step alone would be told apart here; no
// generator makes such.
int& TrafficCollector::newest_flow(const schedule::Transfer& t) {
  const auto n = static_cast<std::size_t>(traffic_.ranks);
  const std::size_t cell =
      (static_cast<std::size_t>(t.post_step) * n + t.from) * n + t.to;
  if (!newest_table_.empty()) return newest_table_[cell];
  return newest_[cell];
}

void TrafficCollector::add(const schedule::Transfer& t) {
  int& newest = newest_flow(t);
  if (newest == 0 || traffic_.flows[newest - 1].wait_step != t.wait_step) {
    traffic_.flows.push_back({t.from, t.to, t.post_step, t.wait_step, 0, 0});
    last_.emplace_back();
    newest = static_cast<int>(traffic_.flows.size());
  }
  Flow& flow = traffic_.flows[newest - 1];
  schedule::Transfer& last = last_[newest - 1];
  if (flow.messages == 0 ||
      !schedule::share_message(last, t, workload_.side_by_side)) {
    ++flow.messages;
  }
  last = t;
  flow.bytes += size(t.block) * bytes_of_[static_cast<int>(t.payload)];
  if (t.payload == schedule::Payload::kv) {
    arrivals_.push_back({t.to, t.slot, part_of(t.block), extent(t.block)});
  } else {
    hold(t.to, t.payload, t.slot, extent(t.block));
  }
}

void TrafficCollector::add(const schedule::Tile& tile) {
  if (tile.grad_slot != schedule::kOwn) {
    hold(tile.rank, schedule::Payload::kv_grad, tile.grad_slot,
         extent(tile.block));
  }
  if (!workload_.tile_work) return;
  // The work, until finish() knows all of it.
  traffic_.step_seconds[static_cast<std::size_t>(tile.step) * traffic_.ranks +
                        tile.rank] += workload_.tile_work(tile);
}

void TrafficCollector::add(const schedule::Retained& kept) {
  traffic_.retained_bytes[kept.rank] +=
      size(kept.block) * bytes_of_[static_cast<int>(schedule::Payload::kv)];
  retained_.insert(key_of(kept.rank, part_of(kept.block)));
}

Traffic TrafficCollector::finish() {
  hold_arrivals();
  for (double& seconds : traffic_.step_seconds) {
    seconds = workload_.seconds(seconds);
  }
  std::ranges::sort(traffic_.flows, [](const Flow& a, const Flow& b) {
    return std::tie(a.post_step, a.from, a.to, a.wait_step) <
           std::tie(b.post_step, b.from, b.to, b.wait_step);
  });
  for (int payload = 0; payload < static_cast<int>(schedule::kPayloads);
       ++payload) {
    for (Rank rank = 0; rank < traffic_.ranks; ++rank) {
      const std::vector<double>& slots = slots_[payload][rank];
      traffic_.slot_bytes[rank] +=
          bytes_of_[payload] * std::accumulate(slots.begin(), slots.end(), 0.0);
    }
  }
  return std::move(traffic_);
}

Traffic traffic_of(const schedule::Schedule& schedule,
                   const schedule::Demand& demand, int strands,
                   const Workload& workload) {
  TrafficCollector collector(demand, strands, schedule.steps, workload);
  for (const schedule::Transfer& transfer : schedule.transfers)
    collector.add(transfer);
  for (const schedule::Tile& tile : schedule.tiles) collector.add(tile);
  for (const schedule::Retained& kept : schedule.retained) collector.add(kept);
  return collector.finish();
}

}  // namespace ringweave::planner
