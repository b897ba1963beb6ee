#include "ringweave/cli/exchanged.h"

#include <utility>

#include "ringweave/planner/cost/attention_work.h"
#include "ringweave/planner/demand_bytes.h"
#include "ringweave/schedule/exchange/exchange_program.h"

namespace ringweave::cli {
namespace {

using schedule::Pass;
using schedule::Payload;

class Keys final : public Exchanged {
 public:
  Keys(schedule::Strategy strategy, const schedule::Layout& layout, Pass pass)
      : strategy_(std::move(strategy)),
        demand_(layout, layout, schedule::Mask::full()),
        pass_(pass) {}

  Part part(Rank rank) const override {
    schedule::Program forward = schedule::compile(
        schedule::rank_part(strategy_, demand_, Pass::forward, rank), rank,
        demand_, strands());
    const std::int64_t kept = forward.kept_size;
    if (pass_ == Pass::forward) return {std::move(forward), kept};
    return {
        schedule::compile(schedule::rank_part(strategy_, demand_, pass_, rank),
                          rank, demand_, strands(), &forward),
        kept};
  }
  schedule::Schedule whole() const override {
    return schedule::whole(strategy_, demand_, pass_);
  }
  planner::Workload workload() const override {
    planner::Workload workload =
        planner::attention_workload(demand_, strands(), {}, {}, pass_, 0);
    workload.tile_work = {};
    workload.unit_bytes = {{Payload::kv, kTokenBytes},
                           {Payload::kv_grad, kTokenBytes}};
    return workload;
  }
  std::optional<double> bound(
      const topology::Topology& topology) const override {
    return planner::transfer_bound(topology, demand_, pass_,
                                   static_cast<double>(kTokenBytes))
        .seconds;
  }

 private:
  int strands() const {
    return schedule::strand_count(strategy_, demand_.ranks());
  }

  schedule::Strategy strategy_;
  schedule::AttentionDemand demand_;
  Pass pass_;
};

class States final : public Exchanged {
 public:
  /// Units are numbers.
  static constexpr std::int64_t kNumberBytes = 4;
  static constexpr std::int64_t kWidth = kStateRowBytes / kNumberBytes;

  States(schedule::StateExchangePtr exchange, int ranks, Pass pass,
         std::int64_t rows)
      : exchange_(std::move(exchange)) {
    states_.ranks = ranks;
    states_.pass = pass;
    states_.summary = {.rows = rows, .width = kWidth, .decays = 0};
    for (Rank rank = 0; rank < ranks; ++rank) {
      states_.segments.push_back({.rank = rank, .part = 0});
    }
  }

  Part part(Rank rank) const override {
    schedule::Program program =
        schedule::compile(*exchange_, states_, rank).program;
    const std::int64_t kept = program.kept_size;
    return {std::move(program), kept};
  }
  schedule::Schedule whole() const override {
    return exchange_->schedule(states_, std::nullopt);
  }
  planner::Workload workload() const override {
    return {.unit_bytes = {{Payload::summary, kNumberBytes}}};
  }
  std::optional<double> bound(const topology::Topology&) const override {
    return std::nullopt;
  }

 private:
  schedule::StateExchangePtr exchange_;
  schedule::StateDemand states_;
};

}  // namespace

std::unique_ptr<const Exchanged> exchanged_keys(
    const schedule::Strategy& strategy, int ranks, Pass pass,
    std::int64_t shard_bytes) {
  return std::make_unique<Keys>(
      strategy,
      schedule::Layout::contiguous(shard_bytes / kTokenBytes * ranks, ranks),
      pass);
}

std::unique_ptr<const Exchanged> exchanged_states(
    schedule::StateExchangePtr exchange, int ranks, Pass pass,
    std::int64_t state_bytes) {
  return std::make_unique<States>(std::move(exchange), ranks, pass,
                                  state_bytes / kStateRowBytes);
}

}  // namespace ringweave::cli
