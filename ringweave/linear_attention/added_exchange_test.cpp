// Adds an exchange of states from outside, and runs it as the others are.
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/linear_attention/problems.h"
#include "ringweave/schedule/schedule_builder.h"

namespace ringweave::linear_attention {
namespace {

using schedule::SummaryDemand;

/// Every summary goes straight to the ranks that need it: in step s to the
/// rank s + 1 further on.
class Rotation final : public schedule::StateExchange {
 public:
  std::string name() const override { return "rotation"; }
  int strands(int) const override { return 1; }

  schedule::Schedule schedule(const schedule::StateDemand& states,
                              std::optional<Rank> rank) const override {
    const SummaryDemand demand(states);
    const int n = states.ranks;
    schedule::ScheduleBuilder builder(demand, 1, schedule::Pass::forward, n);
    for (Rank from = 0; from < n; ++from) {
      for (int step = 0; step + 1 < n; ++step) {
        const Rank to = (from + step + 1) % n;
        if (!rank || *rank == from || *rank == to) {
          send(demand, from, to, step, builder);
        }
      }
    }
    return builder.finish();
  }

 private:
  static void send(const SummaryDemand& demand, Rank from, Rank to, int step,
                   schedule::ScheduleBuilder& builder) {
    for (int part = 0; part < demand.parts(from); ++part) {
      const schedule::BlockId block{from, 0, part};
      if (!demand.needs(to, block, 1)) continue;
      builder.add(schedule::Transfer{.from = from,
                                     .to = to,
                                     .block = block,
                                     .payload = schedule::Payload::summary,
                                     .post_step = step,
                                     .wait_step = step + 1,
                                     .slot = from});
      builder.add(schedule::Retained{to, block, from});
    }
  }
};

schedule::StateExchangeKind rotation() {
  return {
      .name = "rotation",
      .make = [](const std::string&) { return std::make_shared<Rotation>(); },
      .candidates =
          [](int) {
            return std::vector<schedule::StateExchangePtr>{
                std::make_shared<Rotation>()};
          }};
}

class AddRotation : public testing::Environment {
  void SetUp() override { schedule::add_state_exchange(rotation()); }
};
const testing::Environment* const kAddRotation =
    testing::AddGlobalTestEnvironment(new AddRotation);

TEST(AddedExchange, IsExact) {
  sweep(61, Mask::causal(), false, {"rotation"});
  sweep(53, Mask::causal(), true, {"rotation"});
  sweep(43, Mask::causal().with_documents({0, 3, 17, 18, 19, 29, 43}), true,
        {"rotation"});
}

TEST(AddedExchange, HasANameOfItsOwn) {
  EXPECT_EQ(schedule::state_exchange_from_name("rotation")->name(), "rotation");
  EXPECT_THROW(schedule::add_state_exchange(rotation()), InvalidArgument);
}

}  // namespace
}  // namespace ringweave::linear_attention
