// LASP-2: every summary goes to all ranks that need it, by one of the
// dissemination strategies.
#include <memory>
#include <utility>

#include "ringweave/schedule/exchange/state_exchange.h"

namespace ringweave::schedule {
namespace {

class AllGather final : public StateExchange {
 public:
  explicit AllGather(Strategy strategy) : strategy_(std::move(strategy)) {}

  std::string name() const override {
    const std::string kind = "all_gather";
    const std::string strategy = schedule::name(strategy_);
    return strategy == kind ? kind : kind + ":" + strategy;
  }
  int strands(int ranks) const override {
    return strand_count(strategy_, ranks);
  }
  Schedule schedule(const StateDemand& states,
                    std::optional<Rank> rank) const override {
    const SummaryDemand demand(states);
    return rank ? rank_part_of_summaries(strategy_, demand, *rank)
                : whole_of_summaries(strategy_, demand);
  }
  const Strategy* strategy() const override { return &strategy_; }

 private:
  Strategy strategy_;
};

std::vector<StateExchangePtr> candidates(int nodes) {
  std::vector<Strategy> strategies = {{.kind = StrategyKind::all_gather},
                                      {.kind = StrategyKind::ring},
                                      {.kind = StrategyKind::multi_ring},
                                      {.kind = StrategyKind::direct}};
  if (nodes > 1) {
    strategies.push_back({.kind = StrategyKind::hierarchical, .nodes = nodes});
  }
  std::vector<StateExchangePtr> exchanges;
  for (Strategy& strategy : strategies) {
    exchanges.push_back(std::make_shared<AllGather>(std::move(strategy)));
  }
  return exchanges;
}

}  // namespace

StateExchangeKind all_gather() {
  return {.name = "all_gather",
          .make =
              [](const std::string& parameters) {
                return std::make_shared<AllGather>(
                    parameters.empty()
                        ? Strategy{.kind = StrategyKind::all_gather}
                        : strategy_from_name(parameters));
              },
          .candidates = candidates};
}

}  // namespace ringweave::schedule
