#include "ringweave/planner/cost/attention_work.h"

#include <memory>
#include <utility>
#include <vector>

namespace ringweave::planner {
namespace {

double run_area(const schedule::AttentionDemand& demand, Rank rank,
                const schedule::Run& keys) {
  std::int64_t area = 0;
  for (const schedule::Run& queries : demand.q_layout().runs(rank)) {
    area += demand.mask().pairs(queries, keys);
  }
  return static_cast<double>(area);
}

// A table by (rank, owner, part).
template <typename T>
class PartTable {
 public:
  explicit PartTable(const schedule::Demand& demand) {
    for (Rank owner = 0; owner < demand.ranks(); ++owner) {
      first_.push_back(parts_);
      parts_ += demand.parts(owner);
    }
    cells_.resize(static_cast<std::size_t>(demand.ranks()) * parts_);
  }
  T& at(Rank rank, const schedule::BlockId& block) {
    return cells_[static_cast<std::size_t>(rank) * parts_ +
                  first_[block.owner] + block.part];
  }

 private:
  std::size_t parts_ = 0;
  std::vector<std::size_t> first_;
  std::vector<T> cells_;
};

template <typename T, typename Value>
PartTable<T> fill(const schedule::AttentionDemand& demand, Value value) {
  PartTable<T> table(demand);
  for (Rank owner = 0; owner < demand.ranks(); ++owner) {
    for (int part = 0; part < demand.parts(owner); ++part) {
      const schedule::BlockId block{owner, 0, part};
      for (Rank rank = 0; rank < demand.ranks(); ++rank) {
        table.at(rank, block) = value(rank, block);
      }
    }
  }
  return table;
}

schedule::Run keys_of(const schedule::AttentionDemand& demand,
                      const schedule::BlockId& block, int strands) {
  return demand.kv_layout()
      .block_part(block.owner, block.strand, strands, block.part)
      .positions;
}

/// A demand whose answers are looked up: generators ask millions of times.
class TabledDemand final : public schedule::Demand {
 public:
  TabledDemand(const schedule::AttentionDemand& demand, int strands)
      : demand_(demand),
        needs_(
            fill<char>(demand, [&](Rank rank, const schedule::BlockId& block) {
              return demand.needs(rank, block, 1);
            })) {
    for (Rank owner = 0; owner < demand.ranks(); ++owner) {
      first_.push_back(sizes_.size());
      for (int strand = 0; strand < strands; ++strand) {
        for (int part = 0; part < demand.parts(owner); ++part) {
          sizes_.push_back(demand.size({owner, strand, part}, strands));
        }
      }
    }
  }

  int ranks() const override { return demand_.ranks(); }
  int parts(Rank owner) const override { return demand_.parts(owner); }
  std::int64_t size(const schedule::BlockId& block, int) const override {
    return sizes_[first_[block.owner] +
                  static_cast<std::size_t>(block.strand) * parts(block.owner) +
                  block.part];
  }
  bool needs(Rank rank, const schedule::BlockId& block,
             int strands) const override {
    return needs_.at(rank, block) != 0 && size(block, strands) > 0;
  }

 private:
  const schedule::AttentionDemand& demand_;
  mutable PartTable<char> needs_;
  std::vector<std::size_t> first_;
  std::vector<std::int64_t> sizes_;
};

}  // namespace

double pair_area(const schedule::AttentionDemand& demand, Rank rank,
                 Rank owner) {
  double area = 0;
  for (const schedule::Run& keys : demand.kv_layout().runs(owner)) {
    area += run_area(demand, rank, keys);
  }
  return area;
}

Workload attention_workload(const schedule::AttentionDemand& demand,
                            int strands, const ModelShape& shape,
                            const DeviceTable& device_table,
                            schedule::Pass pass,
                            double message_overhead_seconds) {
  Workload workload{
      .unit_bytes = {{schedule::Payload::kv, shape.kv_token_bytes()},
                     {schedule::Payload::kv_grad, shape.grad_token_bytes()}},
      .message_overhead_seconds = message_overhead_seconds,
      .side_by_side = schedule::side_by_side(demand, strands)};
  const auto heads = static_cast<double>(shape.heads * shape.batch);
  const int head_dim = static_cast<int>(shape.head_dim);
  const bool backward = pass == schedule::Pass::backward;
  workload.step_seconds = [=](double area) {
    return area > 0
               ? device_table.tile_seconds(area * heads, head_dim, backward)
               : 0;
  };
  if (!demand.mask().is_plain()) {
    workload.tile_work = [=, &demand](const schedule::Tile& tile) {
      return run_area(demand, tile.rank, keys_of(demand, tile.block, strands));
    };
    return workload;
  }
  // Pairs per key.
  auto table = std::make_shared<PartTable<double>>(
      fill<double>(demand, [&](Rank rank, const schedule::BlockId& block) {
        const schedule::Run keys = keys_of(demand, block, 1);
        return keys.length == 0 ? 0.0
                                : run_area(demand, rank, keys) /
                                      static_cast<double>(keys.length);
      }));
  workload.tile_work = [=, &demand](const schedule::Tile& tile) {
    return table->at(tile.rank, tile.block) *
           static_cast<double>(demand.size(tile.block, strands));
  };
  return workload;
}

Traffic attention_traffic(const schedule::Strategy& strategy,
                          const schedule::AttentionDemand& demand,
                          const ModelShape& shape,
                          const DeviceTable& device_table, schedule::Pass pass,
                          double message_overhead_seconds) {
  const int strands = schedule::strand_count(strategy, demand.ranks());
  const int steps = schedule::step_count(strategy, demand.ranks(), pass);
  const Workload workload = attention_workload(
      demand, strands, shape, device_table, pass, message_overhead_seconds);
  const auto collect = [&](const schedule::Demand& asked) {
    TrafficCollector collector(asked, strands, steps, workload);
    emit(strategy, asked, pass, std::nullopt, true, collector);
    return collector.finish();
  };
  // Then strands of a part are needed alike.
  if (!demand.mask().is_plain()) return collect(demand);
  return collect(TabledDemand(demand, strands));
}

}  // namespace ringweave::planner
