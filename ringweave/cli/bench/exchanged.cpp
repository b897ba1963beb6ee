#include "ringweave/cli/bench/exchanged.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "ringweave/planner/cost/attention_work.h"
#include "ringweave/planner/cost/cost.h"
#include "ringweave/planner/cost/linear_cost.h"
#include "ringweave/planner/cost/loads.h"
#include "ringweave/planner/demand_bytes.h"
#include "ringweave/schedule/exchange/exchange_program.h"
#include "ringweave/schedule/program/outline.h"

namespace ringweave::cli {
namespace {

using schedule::Pass;
using schedule::Payload;

/// Without messages: of a rank that is alone.
schedule::Program program_of_one() {
  schedule::Program program;
  program.steps.resize(2);  // one computes, and the last one only waits
  return program;
}

/// Keys and values, and their gradients.
class Keys : public Exchanged {
 public:
  Keys(schedule::Strategy strategy, const schedule::Layout& layout,
       const schedule::Mask& mask, Pass pass)
      : strategy_(std::move(strategy)),
        demand_(layout, layout, mask),
        pass_(pass) {}

  Part part(Rank rank) const override {
    schedule::Program forward = schedule::compile(
        schedule::rank_part(strategy_, demand_, Pass::forward, rank), rank,
        demand_, strands());
    const std::int64_t kept = forward.kept_size;
    if (pass_ == Pass::forward) return {std::move(forward), kept};
    return {schedule::compile(rank_schedule(rank), rank, demand_, strands(),
                              &forward),
            kept};
  }
  schedule::Schedule whole() const override {
    return schedule::whole(strategy_, demand_, pass_);
  }
  double bound(const topology::Topology& topology) const override {
    const auto payload =
        pass_ == Pass::forward ? Payload::kv : Payload::kv_grad;
    return planner::transfer_bound(
               topology, demand_, pass_,
               static_cast<double>(unit_bytes().at(payload)))
        .seconds;
  }
  std::optional<double> cost(
      const topology::Topology& topology) const override {
    const planner::Workload workload = this->workload();
    return planner::pass_cost(
               planner::traffic_of(whole(), demand_, strands(), workload),
               planner::Network(topology))
        .seconds;
  }

 protected:
  int strands() const {
    return schedule::strand_count(strategy_, demand_.ranks());
  }
  schedule::Schedule rank_schedule(Rank rank) const {
    return schedule::rank_part(strategy_, demand_, pass_, rank);
  }

  schedule::Strategy strategy_;
  schedule::AttentionDemand demand_;
  Pass pass_;
};

class KeysAlone final : public Keys {
 public:
  KeysAlone(schedule::Strategy strategy, const schedule::Layout& layout,
            Pass pass)
      : Keys(std::move(strategy), layout, schedule::Mask::full(), pass) {}

  planner::Workload workload() const override {
    planner::Workload workload =
        planner::attention_workload(demand_, strands(), {}, {}, pass_, 0);
    workload.tile_work = {};
    workload.unit_bytes = {{Payload::kv, kTokenBytes},
                           {Payload::kv_grad, kTokenBytes}};
    return workload;
  }
};

class EmulatedAttention final : public Keys {
 public:
  EmulatedAttention(schedule::Strategy strategy, const schedule::Layout& layout,
                    const schedule::Mask& mask, Pass pass,
                    planner::ModelShape shape,
                    planner::DeviceTable device_table)
      : Keys(std::move(strategy), layout, mask, pass),
        shape_(std::move(shape)),
        device_table_(std::move(device_table)) {}

  Part part(Rank rank) const override {
    Part part = Keys::part(rank);
    const planner::Workload workload = this->workload();
    const schedule::Outline outline = schedule::make_outline(
        rank_schedule(rank), rank, workload.side_by_side);
    for (const schedule::Outline::Step& step : outline.steps) {
      double work = 0;
      for (const schedule::Tile& tile : step.tiles) {
        work += workload.tile_work(tile);
      }
      part.compute_seconds.push_back(workload.seconds(work));
    }
    return part;
  }
  planner::Workload workload() const override {
    return planner::attention_workload(demand_, strands(), shape_,
                                       device_table_, pass_, 0);
  }

 private:
  planner::ModelShape shape_;
  planner::DeviceTable device_table_;
};

/// Of a linear layer.
class States : public Exchanged {
 public:
  /// `layer` is that of a rank with the most tokens.
  States(schedule::StateExchangePtr exchange, schedule::StateDemand states,
         planner::LinearCase layer)
      : exchange_(std::move(exchange)),
        states_(std::move(states)),
        layer_(std::move(layer)) {}

  Part part(Rank rank) const override {
    if (states_.ranks == 1) return {program_of_one(), 0};
    schedule::Program program =
        schedule::compile(*exchange_, states_, rank).program;
    const std::int64_t kept = program.kept_size;
    return {std::move(program), kept};
  }
  schedule::Schedule whole() const override {
    if (states_.ranks == 1) {
      schedule::Schedule alone;
      alone.ranks = 1;
      alone.steps = 1;
      return alone;
    }
    return exchange_->schedule(states_, std::nullopt);
  }
  planner::Workload workload() const override {
    return {.unit_bytes = {{Payload::summary, layer_.shape.sum_bytes()}}};
  }
  double bound(const topology::Topology& topology) const override {
    const planner::Network network(topology);
    return planner::linear_bound(layer_, no_compute(),
                                 planner::Loads(network).best_in_rate(),
                                 backward());
  }
  std::optional<double> cost(
      const topology::Topology& topology) const override {
    const planner::Network network(topology);
    for (const planner::ExchangeCost& cost : planner::exchange_costs(
             layer_, {exchange_}, planner::Loads(network), device_table())) {
      if (cost.name != exchange_->name()) continue;
      return (backward() ? cost.backward : cost.forward).seconds;
    }
    return std::nullopt;
  }

 protected:
  virtual planner::DeviceTable device_table() const { return no_compute(); }
  bool backward() const { return states_.pass == Pass::backward; }

  schedule::StateExchangePtr exchange_;
  schedule::StateDemand states_;
  planner::LinearCase layer_;
};

class EmulatedLinear final : public States {
 public:
  EmulatedLinear(schedule::StateExchangePtr exchange,
                 schedule::StateDemand states, const planner::LinearCase& layer,
                 const schedule::Layout& layout,
                 planner::DeviceTable device_table)
      : States(std::move(exchange), std::move(states), layer),
        device_table_(std::move(device_table)) {
    for (Rank rank = 0; rank < states_.ranks; ++rank) {
      planner::LinearCase mine = layer;
      mine.tokens = layout.shard_tokens(rank);
      ranks_.push_back({planner::linear_stages(mine, device_table_, backward()),
                        States::part(rank).program.posting_steps()});
    }
  }

  Part part(Rank rank) const override {
    Part part = States::part(rank);
    const OfRank& mine = ranks_[rank];
    part.before_seconds = mine.stages.summary;
    part.after_seconds = mine.stages.correction;
    part.compute_seconds.resize(part.program.steps.size());
    std::fill_n(part.compute_seconds.begin(), mine.steps, mine.step_seconds());
    return part;
  }
  /// A tile stands for what is computed in one step.
  schedule::Schedule whole() const override {
    schedule::Schedule schedule = States::whole();
    for (int step = 0; step <= schedule.steps; ++step) {
      for (Rank rank = 0; rank < states_.ranks; ++rank) {
        if (step >= ranks_[rank].steps) continue;
        schedule.tiles.push_back({.rank = rank, .step = step, .block = {}});
      }
    }
    return schedule;
  }
  planner::Workload workload() const override {
    planner::Workload workload = States::workload();
    workload.tile_work = [this](const schedule::Tile& tile) {
      return ranks_[tile.rank].step_seconds();
    };
    return workload;
  }
  double alone_seconds() const override {
    double longest = 0;
    for (const OfRank& rank : ranks_) {
      longest = std::max(longest, rank.stages.summary + rank.stages.correction);
    }
    return longest;
  }

 protected:
  planner::DeviceTable device_table() const override { return device_table_; }

 private:
  struct OfRank {
    planner::LinearStages stages;
    int steps = 1;  ///< in which it computes within chunks
    double step_seconds() const { return stages.within / steps; }
  };

  std::vector<OfRank> ranks_;
  planner::DeviceTable device_table_;
};

}  // namespace

planner::DeviceTable no_compute() {
  planner::DeviceTable table;
  table.flops_per_second = std::numeric_limits<double>::infinity();
  return table;
}

std::unique_ptr<const Exchanged> exchanged_keys(
    const schedule::Strategy& strategy, int ranks, Pass pass,
    std::int64_t shard_bytes) {
  return std::make_unique<KeysAlone>(
      strategy,
      schedule::Layout::contiguous(shard_bytes / kTokenBytes * ranks, ranks),
      pass);
}

std::unique_ptr<const Exchanged> exchanged_attention(
    const schedule::Strategy& strategy, const schedule::Layout& layout,
    const schedule::Mask& mask, Pass pass, const planner::ModelShape& shape,
    const planner::DeviceTable& device_table) {
  return std::make_unique<EmulatedAttention>(strategy, layout, mask, pass,
                                             shape, device_table);
}

std::unique_ptr<const Exchanged> exchanged_states(
    schedule::StateExchangePtr exchange, int ranks, bool causal, Pass pass,
    std::int64_t state_bytes) {
  constexpr std::int64_t kWidth = kStateRowBytes / 4;
  schedule::StateDemand states{
      .ranks = ranks, .segments = {}, .pass = pass, .causal = causal};
  states.summary = {.rows = state_bytes / kStateRowBytes, .width = kWidth};
  for (Rank rank = 0; rank < ranks; ++rank) {
    states.segments.push_back({.rank = rank, .part = 0});
  }
  planner::LinearCase layer{.shape = {}, .places = ranks, .causal = causal};
  layer.shape.type = ElementType::float32;
  layer.shape.state = {1, states.summary.rows, states.summary.width};
  return std::make_unique<States>(std::move(exchange), std::move(states),
                                  std::move(layer));
}

std::unique_ptr<const Exchanged> exchanged_linear(
    schedule::StateExchangePtr exchange, const schedule::Layout& layout,
    bool causal, Pass pass, const planner::ModelShape& shape,
    const planner::DeviceTable& device_table) {
  schedule::StateDemand states{
      .ranks = layout.ranks(), .segments = {}, .pass = pass, .causal = causal};
  states.summary = {
      .rows = shape.batch * shape.state.heads * shape.state.key_dim,
      .width = shape.state.value_dim,
      .decays = shape.decay_numbers()};
  planner::LinearCase layer{.shape = shape, .causal = causal};
  for (const schedule::Segment& segment : layout.segments()) {
    states.segments.push_back({segment.rank, segment.index});
    layer.segments = std::max(layer.segments, segment.index + 1);
  }
  layer.places = static_cast<int>(states.segments.size());
  for (Rank rank = 0; rank < layout.ranks(); ++rank) {
    layer.tokens = std::max(layer.tokens, layout.shard_tokens(rank));
  }
  return std::make_unique<EmulatedLinear>(
      std::move(exchange), std::move(states), layer, layout, device_table);
}

}  // namespace ringweave::cli
