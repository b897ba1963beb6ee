// ZeCO: a chain whose states are cut into strands along their rows, so that a
// rank passes on the first ones while the last ones still arrive.
#include <charconv>
#include <memory>

#include "ringweave/base/error.h"
#include "ringweave/schedule/exchange/chain_schedule.h"
#include "ringweave/schedule/exchange/state_exchange.h"

namespace ringweave::schedule {
namespace {

constexpr const char* kName = "pipelined_chain";
/// Where the name says nothing: 8 ranks then take 1.75 times of a hop, a
/// chain 7.
constexpr int kDefaultStrands = 8;

class PipelinedChain final : public StateExchange {
 public:
  explicit PipelinedChain(int strands) : strands_(strands) {}

  std::string name() const override {
    return strands_ == kDefaultStrands ? kName
                                       : fmt::format("{}:{}", kName, strands_);
  }
  int strands(int) const override { return strands_; }
  std::unique_ptr<const ScanDemand> scan(
      const StateDemand& states) const override {
    return std::make_unique<ChainDemand>(states, strands_);
  }
  Schedule schedule(const StateDemand& states,
                    std::optional<Rank> rank) const override {
    return chain_schedule(ChainDemand(states, strands_), rank);
  }

 private:
  int strands_;
};

StateExchangePtr make(const std::string& parameters) {
  if (parameters.empty()) {
    return std::make_shared<PipelinedChain>(kDefaultStrands);
  }
  int strands = 0;
  const char* end = parameters.data() + parameters.size();
  const auto [stopped, error] =
      std::from_chars(parameters.data(), end, strands);
  require(error == std::errc{} && stopped == end && strands >= 1 &&
              strands <= kMaxStrands,
          "[exchange] got \"{0}:{1}\"; want {0} or {0}:k with k strands, 1 … "
          "{2}",
          kName, parameters, kMaxStrands);
  return std::make_shared<PipelinedChain>(strands);
}

}  // namespace

StateExchangeKind pipelined_chain() {
  return {.name = kName, .make = make, .candidates = [](int) {
            std::vector<StateExchangePtr> all;
            for (const int strands : {2, 4, 8, 16, 32, 64}) {
              all.push_back(std::make_shared<PipelinedChain>(strands));
            }
            return all;
          }};
}

}  // namespace ringweave::schedule
