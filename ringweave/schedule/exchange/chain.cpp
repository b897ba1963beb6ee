// LASP: the state passes along the segments, one after the other.
#include <memory>

#include "ringweave/base/error.h"
#include "ringweave/schedule/exchange/chain_schedule.h"
#include "ringweave/schedule/exchange/state_exchange.h"

namespace ringweave::schedule {
namespace {

class Chain final : public StateExchange {
 public:
  std::string name() const override { return "chain"; }
  int strands(int) const override { return 1; }
  std::unique_ptr<const ScanDemand> scan(
      const StateDemand& states) const override {
    return std::make_unique<ChainDemand>(states, 1);
  }
  Schedule schedule(const StateDemand& states,
                    std::optional<Rank> rank) const override {
    return chain_schedule(ChainDemand(states, 1), rank);
  }
};

}  // namespace

StateExchangeKind chain() {
  return {.name = "chain",
          .make =
              [](const std::string& parameters) {
                check_no_parameters("chain", parameters);
                return std::make_shared<Chain>();
              },
          .candidates =
              [](int) {
                return std::vector<StateExchangePtr>{std::make_shared<Chain>()};
              }};
}

}  // namespace ringweave::schedule
