// LASP: the state passes along the segments, one after the other.
#include <memory>

#include "ringweave/base/error.h"
#include "ringweave/schedule/exchange/state_exchange.h"

namespace ringweave::schedule {
namespace {

class Chain final : public StateExchange {
 public:
  std::string name() const override { return "chain"; }
  Arrival arrival() const override { return Arrival::composed; }
  int strands(int) const override { return 1; }
  Schedule schedule(const StateDemand& states,
                    std::optional<Rank> rank) const override {
    return chain_schedule(chain_demand(states), rank);
  }
};

}  // namespace

StateExchangeKind chain() {
  return {.name = "chain",
          .make =
              [](const std::string& parameters) {
                require(parameters.empty(),
                        "[exchange] got \"chain:{}\"; want chain, which has no "
                        "parameters",
                        parameters);
                return std::make_shared<Chain>();
              },
          .candidates =
              [](int) {
                return std::vector<StateExchangePtr>{std::make_shared<Chain>()};
              }};
}

}  // namespace ringweave::schedule
