#include "ringweave/convolution/convolution_plan.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/convolution/problems.h"

namespace ringweave::convolution {
namespace {

using ::testing::ElementsAre;

std::vector<std::int64_t> values(const at::Tensor& x) {
  return {x.const_data_ptr<std::int64_t>(),
          x.const_data_ptr<std::int64_t>() + x.numel()};
}

TEST(ConvolutionPlan, AHaloComesFromAllRanksThatHoldSome) {
  // Tokens 0-3, 4, 5, 6-8: the last rank needs 3, 4 and 5.
  const Layout layout =
      Layout::contiguous(std::vector<std::int64_t>{4, 1, 1, 3});
  const auto plan = make_convolution_plan({.layout = layout, .width = 4}, 3);
  ASSERT_EQ(plan->pieces.size(), 1);
  EXPECT_EQ(plan->pieces[0].tokens, (Range{0, 3}));
  EXPECT_EQ(plan->pieces[0].halo, (Range{0, 3}));
  ASSERT_EQ(plan->halos.receives.size(), 3);
  for (int from = 0; from < 3; ++from) {
    EXPECT_EQ(plan->halos.receives[from].from, from);
    EXPECT_EQ(plan->halos.receives[from].tokens, 1);
    EXPECT_THAT(values(plan->halos.receives[from].rows.to), ElementsAre(from));
  }
  EXPECT_TRUE(plan->halos.sends.empty());
  const auto first = make_convolution_plan({.layout = layout, .width = 4}, 0);
  ASSERT_EQ(first->halos.sends.size(), 3);
  EXPECT_THAT(values(first->halos.sends[0].tokens), ElementsAre(1, 2, 3));
  EXPECT_THAT(values(first->halos.sends[2].tokens), ElementsAre(3));
  EXPECT_THAT(values(first->halos.initial.from), ElementsAre(0, 1, 2));
}

TEST(ConvolutionPlan, ATokenThatTwoSegmentsNeedTravelsOnce) {
  // Rank 1 holds 4 and 6; token 5 between them is of rank 0.
  const Layout layout =
      Layout::from_runs(8, {{{0, 4}, {5, 1}, {7, 1}}, {{4, 1}, {6, 1}}});
  const auto plan = make_convolution_plan({.layout = layout, .width = 4}, 1);
  EXPECT_EQ(plan->halos.rows, 6);  // 1 2 3, 3 4 5
  ASSERT_EQ(plan->halos.receives.size(), 1);
  EXPECT_EQ(plan->halos.receives[0].tokens, 4);  // 1 2 3 5
  EXPECT_THAT(values(plan->halos.receives[0].rows.from),
              ElementsAre(0, 1, 2, 2, 3));
  EXPECT_THAT(values(plan->halos.own.from), ElementsAre(0));
  EXPECT_THAT(values(plan->halos.own.to), ElementsAre(4));
}

TEST(ConvolutionPlan, DocumentsCutPiecesAndHalos) {
  const auto plan = make_convolution_plan(
      {.layout = Layout::contiguous(12, 2),
       .width = 4,
       .mask = Mask::causal().with_documents({0, 4, 8, 12})},
      1);
  ASSERT_EQ(plan->pieces.size(), 2);
  EXPECT_EQ(plan->pieces[0].tokens, (Range{0, 2}));
  EXPECT_EQ(plan->pieces[0].halo.size(), 2);  // 4 and 5
  EXPECT_EQ(plan->pieces[1].tokens, (Range{2, 6}));
  EXPECT_TRUE(plan->pieces[1].halo.empty());
}

TEST(ConvolutionPlan, TheEndGoesToAllRanks) {
  const Layout layout = Layout::contiguous(9, 3);
  const at::Tensor x = at::empty({2, 3, 5}, at::kFloat);
  const auto plan = make_convolution_plan({.layout = layout, .width = 4}, 2);
  EXPECT_TRUE(planned_bytes(*plan, x, false, false).empty());
  const std::int64_t bytes = 2 * 3 * 5 * 4;
  EXPECT_THAT(planned_bytes(*plan, x, true, false),
              ElementsAre(std::pair(0, bytes), std::pair(1, bytes)));
}

TEST(ConvolutionPlan, RejectsWhatItCannotHonour) {
  const Layout layout = Layout::contiguous(9, 3);
  const Mask causal = Mask::causal();
  const auto refused = [](const ConvolutionSpec& spec, Rank rank) {
    EXPECT_THROW(make_convolution_plan(spec, rank), InvalidArgument);
  };
  refused({.layout = layout, .width = 4}, 3);
  refused({.layout = layout, .width = 0}, 0);
  refused({.layout = Layout::striped(9, 3), .width = 4}, 0);
  refused({.layout = layout, .width = 4, .mask = Mask::full()}, 0);
  refused({.layout = layout, .width = 4, .mask = causal.with_window({3, 0})},
          0);
  refused({.layout = layout, .width = 4, .mask = causal.with_documents({0, 8})},
          0);
}

}  // namespace
}  // namespace ringweave::convolution
