#include "ringweave/planner/linear_candidates.h"

#include <gtest/gtest.h>

#include "ringweave/planner/planner.h"

namespace ringweave::planner {
namespace {

PlanRequest request_of(const schedule::Layout& layout,
                       const schedule::Mask& mask) {
  return {.machine = load_machine("mesh:ranks=4,rate=1e9"),
          .shape = {.layers = 1,
                    .pattern = "L",
                    .heads = 8,
                    .kv_heads = 8,
                    .head_dim = 64},
          .layout = layout,
          .mask = mask,
          .device_table = load_device_table("h100")};
}

LayerPlan linear_plan(const schedule::Layout& layout,
                      const schedule::Mask& mask) {
  return make_plan(request_of(layout, mask)).linear;
}

// 8 heads of 64 x 64 fp32 numbers over 3 links of 1e9 B/s.
constexpr double kState = 8 * 64 * 64 * 4 / 3e9;

TEST(LinearCandidates, BoundOfOneStateIntoTheBestConnectedRank) {
  for (const schedule::Layout& layout : {schedule::Layout::contiguous(400, 4),
                                         schedule::Layout::zigzag(400, 4)}) {
    for (const schedule::Mask& mask :
         {schedule::Mask::full(), schedule::Mask::causal()}) {
      const LayerPlan plan = linear_plan(layout, mask);
      EXPECT_DOUBLE_EQ(plan.exchange_bound, kState);
      EXPECT_DOUBLE_EQ(plan.forward_bound, kState);
      for (const Candidate& c : plan.candidates) {
        if (c.verdict == Verdict::impossible) continue;
        EXPECT_GE(c.forward.seconds, plan.forward_bound) << c.name;
        EXPECT_GE(c.backward.seconds, plan.backward_bound) << c.name;
      }
    }
  }
}

/// 7 segments, so 6 hops, of which strands of a state follow each other.
TEST(LinearCandidates, ThePipelinedChainWithTheBestStrands) {
  const auto pipelined = [](double overhead) {
    PlanRequest request =
        request_of(schedule::Layout::zigzag(400, 4), schedule::Mask::causal());
    request.message_overhead_seconds = overhead;
    std::vector<Candidate> found;
    for (const Candidate& c : make_plan(request).linear.candidates) {
      if (c.name.starts_with("pipelined_chain")) found.push_back(c);
    }
    EXPECT_EQ(found.size(), 1u);
    return found.at(0);
  };
  EXPECT_EQ(pipelined(0).name, "pipelined_chain:64");
  EXPECT_EQ(pipelined(1).name, "pipelined_chain:2");
  // 8 heads of 64 x 64 fp32 numbers over one link of 1e9 B/s.
  const double state = 8 * 64 * 64 * 4 / 1e9;
  EXPECT_NEAR(pipelined(0).forward.seconds, (6 + 63) / 64.0 * state,
              0.01 * state);
}

TEST(LinearCandidates, NoStateWhereEverySegmentStartsADocument) {
  const LayerPlan apart = linear_plan(
      schedule::Layout::contiguous(400, 4),
      schedule::Mask::causal().with_documents({0, 100, 150, 200, 300, 400}));
  EXPECT_DOUBLE_EQ(apart.exchange_bound, 0);
  EXPECT_GT(apart.forward_bound, 0);  // the computing is left
  EXPECT_LT(apart.forward_bound, kState / 10);
  // One document goes on into the last rank.
  EXPECT_DOUBLE_EQ(
      linear_plan(schedule::Layout::contiguous(400, 4),
                  schedule::Mask::causal().with_documents({0, 100, 200, 400}))
          .exchange_bound,
      kState);
  // Zigzag has segments that start elsewhere.
  EXPECT_DOUBLE_EQ(linear_plan(schedule::Layout::zigzag(400, 4),
                               schedule::Mask::causal().with_documents(
                                   {0, 100, 200, 300, 400}))
                       .exchange_bound,
                   kState);
  // All tokens on one rank.
  EXPECT_DOUBLE_EQ(linear_plan(schedule::Layout::contiguous({0, 400, 0, 0}),
                               schedule::Mask::causal())
                       .exchange_bound,
                   0);
}

TEST(LinearCandidates, SummariesOfTheRankWithMostSegments) {
  const double one = linear_plan(schedule::Layout::contiguous(400, 4),
                                 schedule::Mask::causal())
                         .own_bytes;
  EXPECT_DOUBLE_EQ(
      linear_plan(schedule::Layout::zigzag(400, 4), schedule::Mask::causal())
          .own_bytes,
      2 * one);
  const schedule::Layout three = schedule::Layout::from_runs(
      400, {{{0, 50, 1}, {100, 50, 1}, {200, 50, 1}},
            {{50, 50, 1}},
            {{150, 50, 1}},
            {{250, 150, 1}}});
  EXPECT_DOUBLE_EQ(linear_plan(three, schedule::Mask::causal()).own_bytes,
                   3 * one);
}

}  // namespace
}  // namespace ringweave::planner
