#include "ringweave/cli/watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ringweave::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

/// A loss that falls with some noise, in steps of a tenth of a second.
double falling(std::int64_t step) {
  return 2 + 3.0 / static_cast<double>(step) +
         0.05 * static_cast<double>(step % 3);
}

TEST(Watch, SaysNothingOfAnOrdinaryRun) {
  Watch watch;
  for (std::int64_t step = 1; step <= 300; ++step) {
    EXPECT_THAT(watch.look(step, falling(step), 0.1 + 0.001 * (step % 7)),
                IsEmpty())
        << step;
  }
}

TEST(Watch, NamesASlowStepAndASpike) {
  Watch watch;
  for (std::int64_t step = 1; step <= 60; ++step) {
    watch.look(step, falling(step), 0.1);
  }
  EXPECT_THAT(watch.look(61, falling(61), 0.9), IsEmpty());
  const auto slow = watch.look(62, falling(62), 1.2);
  ASSERT_THAT(slow, SizeIs(1));
  EXPECT_EQ(name(slow[0].kind), "slow_step");
  EXPECT_THAT(text(slow[0]), HasSubstr("step 62 took 1.2 s, 12 times"));
  const auto spike = watch.look(63, 7.5, 0.1);
  ASSERT_THAT(spike, SizeIs(1));
  EXPECT_EQ(name(spike[0].kind), "loss_spike");
  EXPECT_THAT(text(spike[0]), HasSubstr("step 63 has a loss of 7.5000"));
  EXPECT_THAT(watch.look(64, 7.5, 2), SizeIs(2));
  EXPECT_THAT(watch.look(65, falling(65), 0.1), IsEmpty());
}

TEST(Watch, TheFirstStepsMayBeAnything) {
  Watch watch;
  for (std::int64_t step = 1; step <= 10; ++step) {
    EXPECT_THAT(watch.look(step, step % 2 == 0 ? 100 : 1, step == 9 ? 50 : 0.1),
                IsEmpty());
  }
}

}  // namespace
}  // namespace ringweave::cli
