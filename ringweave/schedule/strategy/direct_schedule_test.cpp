#include "ringweave/schedule/strategy/direct_schedule.h"

#include <algorithm>

#include <gtest/gtest.h>

namespace ringweave::schedule {
namespace {

Schedule direct_schedule(const Demand& demand, int strands, Pass pass,
                         std::optional<Rank> rank) {
  const int steps = strands + (pass == Pass::backward ? 2 : 1);
  ScheduleBuilder builder(demand, strands, pass, steps);
  emit_direct(demand, strands, pass, rank, builder);
  return builder.finish();
}

Schedule all_gather_schedule(const Demand& demand, Pass pass,
                             std::optional<Rank> rank, bool retain) {
  ScheduleBuilder builder(demand, 1, pass, 2);
  emit_all_gather(demand, pass, rank, retain, builder);
  return builder.finish();
}

AttentionDemand direct_demand(int ranks, const Mask& mask,
                              const std::string& layout) {
  const Layout kv = Layout::named(layout, 24LL * ranks, ranks);
  return AttentionDemand(kv, kv, mask);
}

TEST(DirectSchedule, TwoRanksTwoStrandsAreSpelledOut) {
  const AttentionDemand demand(Layout::contiguous(4, 2),
                               Layout::contiguous(4, 2), Mask::full());
  using enum Payload;
  using enum Action;
  const Schedule forward = direct_schedule(demand, 2, Pass::forward, Rank{0});
  EXPECT_EQ(forward.steps, 3);
  EXPECT_EQ(
      forward.transfers,
      (std::vector<Transfer>{{0, 1, {0, 0, 0}, kv, copy, 0, 1, kOwn, 0},
                             {1, 0, {1, 0, 0}, kv, copy, 0, 1, kOwn, 1},
                             {0, 1, {0, 1, 0}, kv, copy, 1, 2, kOwn, 2},
                             {1, 0, {1, 1, 0}, kv, copy, 1, 2, kOwn, 3}}));
  EXPECT_EQ(forward.tiles, (std::vector<Tile>{{0, 0, {0, 0, 0}, kOwn, kOwn},
                                              {0, 0, {0, 1, 0}, kOwn, kOwn},
                                              {0, 1, {1, 0, 0}, 1, kOwn},
                                              {0, 2, {1, 1, 0}, 3, kOwn}}));
  EXPECT_TRUE(forward.retained.empty());

  const Schedule backward = direct_schedule(demand, 2, Pass::backward, Rank{0});
  EXPECT_EQ(backward.steps, 4);
  const auto returns = [](const Transfer& transfer) {
    return transfer.payload == kv_grad;
  };
  std::vector<Transfer> gradients;
  std::copy_if(backward.transfers.begin(), backward.transfers.end(),
               std::back_inserter(gradients), returns);
  EXPECT_EQ(gradients, (std::vector<Transfer>{
                           {0, 1, {1, 0, 0}, kv_grad, add, 2, 3, 1, 4},
                           {1, 0, {0, 0, 0}, kv_grad, add, 2, 3, 0, 5},
                           {0, 1, {1, 1, 0}, kv_grad, add, 3, 4, 3, 4},
                           {1, 0, {0, 1, 0}, kv_grad, add, 3, 4, 2, 5}}));
}

TEST(DirectSchedule, EveryLinkCarriesOneShardEachWay) {
  for (int n = 2; n <= 8; ++n) {
    for (const int strands : {1, 2, 3, 6}) {
      const AttentionDemand demand = direct_demand(n, Mask::full(), "zigzag");
      for (const Pass pass : {Pass::forward, Pass::backward}) {
        const LinkTraffic traffic =
            link_traffic(direct_schedule(demand, strands, pass, {}));
        EXPECT_EQ(traffic.size(), n * (n - 1));
        for (const auto& [link, units] : traffic) {
          EXPECT_EQ(units.at(Payload::kv), 24);
          if (pass == Pass::backward) {
            EXPECT_EQ(units.at(Payload::kv_grad), 24);
          }
        }
      }
    }
  }
}

TEST(DirectSchedule, BuffersShrinkWithTheNumberOfStrands) {
  const int n = 5;
  const AttentionDemand demand = direct_demand(n, Mask::full(), "contiguous");
  for (const int strands : {2, 3, 6}) {
    const std::int64_t slice = 24 / strands;
    const Schedule forward =
        direct_schedule(demand, strands, Pass::forward, Rank{2});
    EXPECT_EQ(buffer_bytes(forward, 2, {{Payload::kv, 1}}),
              2 * (n - 1) * slice);
    const Schedule backward =
        direct_schedule(demand, strands, Pass::backward, Rank{2});
    EXPECT_EQ(buffer_bytes(backward, 2, {{Payload::kv, 1}}),
              2 * (n - 1) * slice);
    EXPECT_EQ(buffer_bytes(backward, 2, {{Payload::kv_grad, 1}}),
              3 * (n - 1) * slice);
  }
}

// 25 % of all bytes: the back part of a zigzag shard is needed by half of the
// other ranks on average.
TEST(DirectSchedule, SavesAllThatCausalZigzagAllows) {
  for (int n = 2; n <= 8; ++n) {
    const AttentionDemand demand = direct_demand(n, Mask::causal(), "zigzag");
    for (const Schedule& schedule :
         {direct_schedule(demand, 3, Pass::forward, {}),
          all_gather_schedule(demand, Pass::forward, {}, true)}) {
      std::int64_t sent = 0;
      for (const auto& [link, units] : link_traffic(schedule)) {
        sent += units.at(Payload::kv);
        // The links downwards carry both parts, those upwards the front only.
        EXPECT_EQ(units.at(Payload::kv), link.first > link.second ? 24 : 12);
      }
      EXPECT_EQ(4 * sent, 3 * n * (n - 1) * 24);
    }
  }
}

TEST(AllGatherSchedule, KeepsEverythingForBackward) {
  const int n = 4;
  const AttentionDemand demand = direct_demand(n, Mask::full(), "contiguous");
  const Schedule forward =
      all_gather_schedule(demand, Pass::forward, Rank{1}, true);
  EXPECT_EQ(forward.steps, 2);
  EXPECT_EQ(forward.retained.size(), n - 1);
  EXPECT_EQ(buffer_bytes(forward, 1, {{Payload::kv, 1}}), (n - 1) * 24);
  for (const Tile& tile : forward.tiles) EXPECT_EQ(tile.step, 1);

  const Schedule backward =
      all_gather_schedule(demand, Pass::backward, {}, true);
  EXPECT_EQ(backward.steps, 2);
  for (const auto& [link, units] : link_traffic(backward)) {
    EXPECT_FALSE(units.contains(Payload::kv));
    EXPECT_EQ(units.at(Payload::kv_grad), 24);
  }
  for (const Tile& tile : backward.tiles) {
    EXPECT_EQ(tile.step, tile.rank == tile.block.owner ? 1 : 0);
  }
}

}  // namespace
}  // namespace ringweave::schedule
