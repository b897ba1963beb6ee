#include "ringweave/linear_attention/linear_plan.h"

#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/linear_attention/problems.h"

namespace ringweave::linear_attention {
namespace {

TEST(LinearPlan, RejectsWhatItCannotHonour) {
  const schedule::StateExchangePtr chain =
      schedule::state_exchange_from_name("chain");
  const Layout layout = Layout::contiguous(9, 3);
  const Mask causal = Mask::causal();
  EXPECT_THROW(make_linear_plan({nullptr, layout, causal}, 0), InvalidArgument);
  EXPECT_THROW(
      make_linear_plan(
          {schedule::state_exchange_from_name("all_gather:paths:nodes=2"),
           layout, causal},
          0),
      NoSolution);
  EXPECT_THROW(make_linear_plan({chain, Layout::striped(9, 3), causal}, 0),
               InvalidArgument);
  EXPECT_THROW(make_linear_plan({chain, layout, causal}, 3), InvalidArgument);
  EXPECT_THROW(make_linear_plan({chain, layout, causal.with_window({3, 0})}, 0),
               InvalidArgument);
  EXPECT_THROW(
      make_linear_plan({chain, layout, Mask::full().with_documents({0, 9})}, 0),
      InvalidArgument);
  EXPECT_THROW(
      make_linear_plan({chain, layout, causal.with_documents({0, 8})}, 0),
      InvalidArgument);
}

TEST(LinearPlan, CompilesAProgramOncePerPassAndShape) {
  const auto plan = make_linear_plan(
      {schedule::state_exchange_from_name("all_gather:multi_ring"),
       Layout::zigzag(9, 3), Mask::causal()},
      1);
  const schedule::SummaryShape shape{.rows = 6, .width = 5, .decays = 6};
  const auto forward = plan->program(schedule::Pass::forward, false, shape);
  EXPECT_EQ(plan->program(schedule::Pass::forward, false, shape), forward);
  EXPECT_NE(plan->program(schedule::Pass::forward, true, shape), forward);
  EXPECT_NE(plan->program(schedule::Pass::backward, false, shape), forward);
  EXPECT_NE(plan->program(schedule::Pass::forward, false,
                          {.rows = 12, .width = 5, .decays = 6}),
            forward);
}

}  // namespace
}  // namespace ringweave::linear_attention
