#include "ringweave/schedule/program/outline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/schedule/strategy/strategy.h"
#include "ringweave/schedule/test_cases.h"

namespace ringweave::schedule {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Outline, CoalescesConsecutivePartsAndOrdersSteps) {
  const Outline outline = make_outline(ring_of_three(), 1, {});
  ASSERT_EQ(outline.steps.size(), 4u);
  ASSERT_EQ(outline.messages.size(), 4u);
  for (const Message& message : outline.messages) {
    EXPECT_EQ(message.parts, 2);
    EXPECT_EQ(message.size, 5);
  }
  // By (post step, from): 0 → 1 and 1 → 2 of step 0, then of step 1.
  EXPECT_EQ(outline.messages[0].first.from, 0);
  EXPECT_EQ(outline.messages[1].first.from, 1);
  EXPECT_THAT(outline.steps[0].receives, ElementsAre(0));
  EXPECT_THAT(outline.steps[0].sends, ElementsAre(1));
  EXPECT_THAT(outline.steps[1].waits, ElementsAre(0, 1));
  EXPECT_THAT(outline.steps[1].receives, ElementsAre(2));
  EXPECT_THAT(outline.steps[1].sends, ElementsAre(3));
  EXPECT_THAT(outline.steps[2].waits, ElementsAre(2, 3));
  EXPECT_THAT(outline.steps[3].waits, IsEmpty());
  EXPECT_EQ(outline.steps[2].tiles.size(), 2u);
}

TEST(Outline, KeepsPartsApartThatAreNotNeighboursOrDiffer) {
  Schedule schedule = ring_of_three();
  // Rank 0's block to rank 1: the second part goes to another slot.
  schedule.transfers[2].slot = 5;
  const Outline outline = make_outline(schedule, 1, {});
  EXPECT_EQ(outline.messages.size(), 5u);
  EXPECT_EQ(outline.messages[0].size, 2);
  EXPECT_EQ(outline.messages[1].size, 3);
}

TEST(Outline, KeepsPartsApartThatAnEndDoesNotSeeAlike) {
  const Schedule schedule = ring_of_three();
  // Rank 0 is an end of the messages from 0 to 1 and from 2 to 0.
  const auto apart_on_0 = [](Rank rank, const BlockId&) { return rank != 0; };
  EXPECT_EQ(make_outline(schedule, 1, apart_on_0).messages.size(), 6u);
  const std::vector<Outline> all = make_outlines(schedule, apart_on_0);
  EXPECT_EQ(all[0].messages.size(), 8u);
  EXPECT_EQ(all[1].messages.size(), 6u);
  EXPECT_EQ(all[2].messages.size(), 6u);
}

TEST(Outline, RefusesWhatCannotBeRun) {
  Schedule schedule = ring_of_three();
  schedule.transfers[0].wait_step = 0;
  EXPECT_THROW(make_outline(schedule, 0, {}), InternalError);
  schedule = ring_of_three();
  schedule.blocks.erase(schedule.blocks.begin());
  EXPECT_THROW(make_outline(schedule, 0, {}), InternalError);
}

}  // namespace
}  // namespace ringweave::schedule
