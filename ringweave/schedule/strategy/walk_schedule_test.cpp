#include "ringweave/schedule/strategy/walk_schedule.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "ringweave/schedule/strategy/strategy.h"

namespace ringweave::schedule {
namespace {

Schedule walk_schedule(const Walks& walks, const Demand& demand, Pass pass,
                       std::optional<Rank> rank, bool retain) {
  ScheduleBuilder builder(demand, walks.strands(), pass, walks.ranks());
  emit_walks(walks, demand, pass, rank, retain, builder);
  return builder.finish();
}

// Even shards: every strand of every strategy has the same size.
AttentionDemand walk_demand(int ranks, const Mask& mask,
                            const std::string& layout) {
  const std::int64_t tokens = 4LL * ranks * std::max(1, ranks - 1);
  const Layout kv = Layout::named(layout, tokens, ranks);
  return AttentionDemand(kv, kv, mask);
}

std::int64_t total(const LinkTraffic& traffic, Payload payload) {
  std::int64_t sum = 0;
  for (const auto& [link, units] : traffic) {
    const auto found = units.find(payload);
    if (found != units.end()) sum += found->second;
  }
  return sum;
}

TEST(WalkSchedule, RingOfThreeIsSpelledOut) {
  const AttentionDemand demand(Layout::contiguous(3, 3),
                               Layout::contiguous(3, 3), Mask::full());
  const Walks walks = ring_walks(3, false);
  const Schedule forward =
      walk_schedule(walks, demand, Pass::forward, Rank{0}, true);
  EXPECT_EQ(forward.steps, 3);
  using enum Payload;
  using enum Action;
  const BlockId own{0, 0, 0}, one{1, 0, 0}, two{2, 0, 0};
  EXPECT_EQ(forward.transfers,
            (std::vector<Transfer>{{0, 1, own, kv, copy, 0, 1, kOwn, 1},
                                   {2, 0, two, kv, copy, 0, 1, kOwn, 1},
                                   {0, 1, two, kv, copy, 1, 2, 1, 0},
                                   {2, 0, one, kv, copy, 1, 2, 1, 0}}));
  EXPECT_EQ(forward.tiles, (std::vector<Tile>{{0, 0, own, kOwn, kOwn},
                                              {0, 1, two, 1, kOwn},
                                              {0, 2, one, 0, kOwn}}));
  EXPECT_EQ(forward.retained, (std::vector<Retained>{{0, one, 0}}));

  const Schedule backward =
      walk_schedule(walks, demand, Pass::backward, Rank{0}, true);
  EXPECT_EQ(backward.steps, 3);
  EXPECT_EQ(backward.transfers,
            (std::vector<Transfer>{{0, 2, one, kv, copy, 0, 1, 0, 1},
                                   {1, 0, two, kv, copy, 0, 1, 0, 1},
                                   {0, 2, one, kv_grad, add, 1, 2, 1, 0},
                                   {1, 0, two, kv_grad, add, 1, 2, 1, 0},
                                   {0, 2, two, kv_grad, add, 2, 3, 2, 0},
                                   {1, 0, own, kv_grad, add, 2, 3, 2, 0}}));
  EXPECT_EQ(backward.tiles, (std::vector<Tile>{{0, 0, one, 0, 1},
                                               {0, 1, two, 1, 2},
                                               {0, 2, own, kOwn, kOwn}}));
  EXPECT_EQ(backward.retained, forward.retained);
}

// C: units of a shard.
TEST(WalkSchedule, BytesOfARingAreThoseOfTheFormulas) {
  for (int n = 2; n <= 9; ++n) {
    for (const bool reverse : {false, true}) {
      const AttentionDemand demand = walk_demand(n, Mask::full(), "contiguous");
      const std::int64_t c = demand.kv_layout().shard_tokens(0);
      const Walks walks = ring_walks(n, reverse);
      const LinkTraffic forward =
          link_traffic(walk_schedule(walks, demand, Pass::forward, {}, true));
      EXPECT_EQ(forward.size(), n);
      for (const auto& [link, units] : forward) {
        EXPECT_EQ(link.second, (link.first + (reverse ? n - 1 : 1)) % n);
        EXPECT_EQ(units.at(Payload::kv), (n - 1) * c);
      }
      const LinkTraffic backward =
          link_traffic(walk_schedule(walks, demand, Pass::backward, {}, true));
      EXPECT_EQ(backward.size(), n);
      for (const auto& [link, units] : backward) {
        // Reverses of forward's links.
        EXPECT_EQ(link.first, (link.second + (reverse ? n - 1 : 1)) % n);
        EXPECT_EQ(units.contains(Payload::kv) ? units.at(Payload::kv) : 0,
                  (n - 2) * c);
        EXPECT_EQ(units.at(Payload::kv_grad), (n - 1) * c);
      }
    }
  }
}

TEST(WalkSchedule, MultiRingsLoadEveryLinkAlike) {
  for (int n = 2; n <= 9; ++n) {
    const AttentionDemand demand = walk_demand(n, Mask::full(), "zigzag");
    const std::int64_t c = demand.kv_layout().shard_tokens(0);
    const Walks walks = multi_ring_walks(n);
    const LinkTraffic forward =
        link_traffic(walk_schedule(walks, demand, Pass::forward, {}, true));
    EXPECT_EQ(forward.size(), n * (n - 1));
    for (const auto& [link, units] : forward) {
      EXPECT_EQ(units.at(Payload::kv), c);
    }
    const LinkTraffic backward =
        link_traffic(walk_schedule(walks, demand, Pass::backward, {}, true));
    EXPECT_EQ(total(backward, Payload::kv), n * (n - 2) * c);
    for (const auto& [link, units] : backward) {
      EXPECT_EQ(units.at(Payload::kv_grad), c);
    }
  }
}

/// Units of all slots together.
std::int64_t slots(const Schedule& schedule, Rank rank, Payload payload) {
  std::int64_t units = 0;
  for (const auto& [slot, size] : slot_sizes(schedule, rank, payload)) {
    units += size;
  }
  return units;
}

TEST(WalkSchedule, KeepsOneShardAndTwoOnTheWay) {
  for (const int n : {2, 3, 5, 8}) {
    for (const Walks& walks : {ring_walks(n, false), multi_ring_walks(n)}) {
      const AttentionDemand demand = walk_demand(n, Mask::full(), "contiguous");
      const std::int64_t c = demand.kv_layout().shard_tokens(0);
      for (Rank rank = 0; rank < n; ++rank) {
        const Schedule forward =
            walk_schedule(walks, demand, Pass::forward, rank, true);
        std::int64_t kept = 0;
        for (const Retained& retained : forward.retained) {
          kept += block_size(forward, retained.block);
        }
        EXPECT_EQ(kept, c);
        EXPECT_LE(slots(forward, rank, Payload::kv), 2 * c);
        EXPECT_EQ(buffer_bytes(forward, rank, {{Payload::kv, 1}}),
                  slots(forward, rank, Payload::kv) + kept);
        const Schedule backward =
            walk_schedule(walks, demand, Pass::backward, rank, true);
        EXPECT_LE(slots(backward, rank, Payload::kv), 2 * c);
        EXPECT_LE(slots(backward, rank, Payload::kv_grad), 3 * c);
      }
    }
  }
}

// Zigzag and causal: all ranks need the front part of a block, only those below
// the owner its back part.
TEST(WalkSchedule, SavesWhatCausalMasksAllow) {
  for (int n = 2; n <= 9; ++n) {
    const AttentionDemand demand = walk_demand(n, Mask::causal(), "zigzag");
    const std::int64_t chunk = demand.kv_layout().shard_tokens(0) / 2;
    const auto sent = [&](const Walks& walks) {
      return total(
          link_traffic(walk_schedule(walks, demand, Pass::forward, {}, true)),
          Payload::kv);
    };
    // r → r - 1: the back part goes down to rank 0, owner hops.
    EXPECT_EQ(sent(ring_walks(n, true)),
              chunk * (n * (n - 1) + n * (n - 1) / 2));
    // r → r + 1: only that of rank 0 is not sent at all.
    EXPECT_EQ(sent(ring_walks(n, false)),
              chunk * (n * (n - 1) + (n - 1) * (n - 1)));
    if (n < 5) continue;
    const double all = 2.0 * n * (n - 1) * chunk;
    const double saving = 1 - sent(multi_ring_walks(n)) / all;
    EXPECT_GT(saving, 0.10) << n;
    EXPECT_LT(saving, 0.17) << n;
  }
}

// What the mask cuts short is not kept, but sent again by its owner.
TEST(WalkSchedule, SendsShortWalksAgainInBackward) {
  const AttentionDemand demand = walk_demand(4, Mask::causal(), "contiguous");
  const Walks walks = ring_walks(4, false);
  const Schedule backward =
      walk_schedule(walks, demand, Pass::backward, {}, true);
  // Ranks 1, 2, 3 need block 0, which so walks to the end.
  const std::vector<Retained> kept = {{3, {0, 0, 0}, 1}};
  EXPECT_EQ(backward.retained, kept);
  // Block 1 was needed by 2 and 3 = w_2, which computes in step 1.
  const Transfer again{1, 3,    {1, 0, 0}, Payload::kv, Action::copy, 0,
                       1, kOwn, 0};
  EXPECT_EQ(
      std::count(backward.transfers.begin(), backward.transfers.end(), again),
      1);
  // Nobody but its owner needs block 3.
  for (const Transfer& transfer : backward.transfers) {
    EXPECT_NE(transfer.block.owner, 3);
  }
}

// A window: block o is needed by its neighbours only.
TEST(WalkSchedule, KeysStopAtTheirLastUser) {
  const AttentionDemand demand =
      walk_demand(6, Mask::causal().with_window({1, {}}), "contiguous");
  const LinkTraffic forward = link_traffic(
      walk_schedule(ring_walks(6, false), demand, Pass::forward, {}, true));
  const std::int64_t c = demand.kv_layout().shard_tokens(0);
  EXPECT_EQ(forward.size(), 5);
  EXPECT_EQ(total(forward, Payload::kv), 5 * c);
  // The other way round the block passes all other ranks first; they don't use
  // it, and in backward they only pass its gradient on.
  const Schedule backward =
      walk_schedule(ring_walks(6, true), demand, Pass::backward, {}, true);
  const LinkTraffic traffic = link_traffic(backward);
  EXPECT_EQ(total(traffic, Payload::kv), 0);  // kept where it is used
  EXPECT_EQ(total(traffic, Payload::kv_grad), 5 * 5 * c);
  for (const Transfer& transfer : backward.transfers) {
    EXPECT_EQ(transfer.action,
              transfer.to == transfer.block.owner ? Action::add : Action::copy);
  }
}

}  // namespace
}  // namespace ringweave::schedule
