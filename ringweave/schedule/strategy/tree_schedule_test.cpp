#include "ringweave/schedule/strategy/tree_schedule.h"

#include <gtest/gtest.h>

#include "ringweave/schedule/proof/validate.h"
#include "ringweave/schedule/strategy/strategy.h"
#include "ringweave/schedule/test_cases.h"

namespace ringweave::schedule {
namespace {

Strategy synthesised(Trees trees) {
  return {.kind = StrategyKind::synthesised,
          .trees = std::make_shared<const Trees>(std::move(trees))};
}

// Owner 0 sends to 1, which sends to 2 and 3 in one step; so all others,
// turned.
Trees forks_of_four() {
  Trees trees{.ranks = 4, .strands = 1, .steps = 2, .hops = {}};
  for (Rank owner = 0; owner < 4; ++owner) {
    const auto at = [&](int place) { return (owner + place) % 4; };
    trees.hops.push_back(
        {{at(0), at(1), 0}, {at(1), at(2), 1}, {at(1), at(3), 1}});
  }
  check(trees);
  return trees;
}

TEST(RouteSchedule, ForksOfFourAreSpelledOut) {
  const Layout layout = Layout::contiguous({2, 0, 0, 2});
  const AttentionDemand demand(layout, layout, Mask::full());
  // Only ranks 0 and 3 have queries: 1 passes block 0 on, 2 is left out.
  const Strategy strategy = synthesised(forks_of_four());
  using enum Payload;
  using enum Action;
  const BlockId zero{0, 0, 0}, three{3, 0, 0};
  const Schedule forward = whole(strategy, demand, Pass::forward);
  EXPECT_EQ(forward.steps, 3);
  EXPECT_EQ(forward.transfers,
            (std::vector<Transfer>{{0, 1, zero, kv, copy, 0, 1, kOwn, 0},
                                   {3, 0, three, kv, copy, 0, 1, kOwn, 3},
                                   {1, 3, zero, kv, copy, 1, 2, 0, 0}}));
  EXPECT_EQ(forward.tiles, (std::vector<Tile>{{0, 0, zero, kOwn, kOwn},
                                              {3, 0, three, kOwn, kOwn},
                                              {0, 1, three, 3, kOwn},
                                              {3, 2, zero, 0, kOwn}}));
  const std::vector<Retained> kept = {{0, three, 3}, {3, zero, 0}};
  EXPECT_EQ(forward.retained, kept);
  const Schedule backward = whole(strategy, demand, Pass::backward);
  EXPECT_EQ(backward.steps, 3);
  EXPECT_EQ(backward.transfers,
            (std::vector<Transfer>{{3, 1, zero, kv_grad, copy, 1, 2, 0, 0},
                                   {0, 3, three, kv_grad, add, 2, 3, 3, 4},
                                   {1, 0, zero, kv_grad, add, 2, 3, 0, 4}}));
  EXPECT_EQ(backward.tiles, (std::vector<Tile>{{0, 0, zero, kOwn, kOwn},
                                               {3, 0, zero, 0, 0},
                                               {3, 0, three, kOwn, kOwn},
                                               {0, 1, three, 3, 3}}));
  EXPECT_EQ(backward.retained, kept);
}

// A rank that needs nothing has two children: it starts with the first of their
// gradients and adds the second.
TEST(RouteSchedule, ForksWithoutUseAdd) {
  const Layout queries = Layout::contiguous({2, 0, 2, 2});
  const AttentionDemand demand(queries, queries, Mask::full());
  const Schedule backward =
      whole(synthesised(forks_of_four()), demand, Pass::backward);
  const BlockId zero{0, 0, 0};
  int copies = 0, adds = 0;
  for (const Transfer& transfer : backward.transfers) {
    if (transfer.block != zero || transfer.to != 1) continue;
    (transfer.action == Action::copy ? copies : adds) += 1;
  }
  EXPECT_EQ(copies, 1);
  EXPECT_EQ(adds, 1);
  EXPECT_NO_THROW(validate(backward, demand, 1));
}

TEST(RouteSchedule, KeepsAllBlocksOnce) {
  const Layout layout = Layout::contiguous(8, 4);
  const AttentionDemand demand(layout, layout, Mask::full());
  const Strategy strategy = synthesised(forks_of_four());
  const Schedule forward = whole(strategy, demand, Pass::forward);
  const Schedule backward = whole(strategy, demand, Pass::backward);
  for (Rank rank = 0; rank < 4; ++rank) {
    EXPECT_EQ(buffer_bytes(forward, rank, {{Payload::kv, 1}}), 3 * 2);
    EXPECT_EQ(buffer_bytes(backward, rank, {{Payload::kv, 1}}), 3 * 2);
    // Besides the sums, staging of the two children's gradients.
    EXPECT_EQ(buffer_bytes(backward, rank, {{Payload::kv_grad, 1}}), 5 * 2);
  }
}

TEST(RouteSchedule, OneRankComputesAlone) {
  const Layout layout = Layout::contiguous(3, 1);
  const AttentionDemand demand(layout, layout, Mask::causal());
  const Strategy strategy = synthesised({.hops = {{}}});
  for (const Pass pass : {Pass::forward, Pass::backward}) {
    const Schedule schedule = whole(strategy, demand, pass);
    EXPECT_EQ(schedule.steps, 1);
    EXPECT_EQ(schedule.tiles.size(), 1);
    EXPECT_TRUE(schedule.transfers.empty());
    EXPECT_NO_THROW(validate(schedule, demand, 1));
  }
}

}  // namespace
}  // namespace ringweave::schedule
