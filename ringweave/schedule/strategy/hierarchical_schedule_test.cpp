#include "ringweave/schedule/strategy/hierarchical_schedule.h"

#include <algorithm>
#include <chrono>
#include <set>

#include <gtest/gtest.h>

#include "ringweave/schedule/proof/validate.h"
#include "ringweave/schedule/strategy/strategy.h"

namespace ringweave::schedule {
namespace {

constexpr StrategyKind kInner[] = {StrategyKind::direct, StrategyKind::ring,
                                   StrategyKind::multi_ring};

Strategy hierarchical(int nodes, int slices, StrategyKind inner) {
  return {.kind = StrategyKind::hierarchical,
          .nodes = nodes,
          .slices = slices,
          .inner = inner};
}

// Even shards of `slices` · (ranks_per_node - 1) units, so that every strand of
// every inner schedule has the same size.
AttentionDemand nodes_demand(int nodes, int ranks_per_node, int slices,
                             const Mask& mask = Mask::full(),
                             const std::string& layout = "contiguous") {
  const int ranks = nodes * ranks_per_node;
  const Layout own = Layout::named(
      layout, 2LL * ranks * slices * std::max(1, ranks_per_node - 1), ranks);
  return AttentionDemand(own, own, mask);
}

std::int64_t units_of(const LinkTraffic& traffic, Rank from, Rank to,
                      Payload payload) {
  const auto link = traffic.find({from, to});
  if (link == traffic.end()) return 0;
  const auto units = link->second.find(payload);
  return units == link->second.end() ? 0 : units->second;
}

// What a rank sends, over its rail and to its node.
struct Sent {
  std::int64_t rail = 0, inside = 0;
};

Sent sent_by(const LinkTraffic& traffic, Rank from, int ranks, int m,
             Payload payload) {
  Sent sent;
  for (Rank to = 0; to < ranks; ++to) {
    (from / m == to / m ? sent.inside : sent.rail) +=
        units_of(traffic, from, to, payload);
  }
  return sent;
}

// C: units of a shard.
TEST(HierarchicalSchedule, BytesAreThoseOfTheFormulas) {
  for (const int u : {2, 3, 4}) {
    for (const int m : {2, 3, 4, 5, 6, 8}) {
      for (const StrategyKind inner : kInner) {
        const int n = u * m;
        const int slices = 1 + (u + m) % 3;
        const Strategy strategy = hierarchical(u, slices, inner);
        SCOPED_TRACE(testing::Message() << name(strategy) << " on " << n);
        const AttentionDemand demand = nodes_demand(u, m, slices);
        const std::int64_t c = demand.kv_layout().shard_tokens(0);
        const LinkTraffic forward =
            link_traffic(whole(strategy, demand, Pass::forward));
        const LinkTraffic backward =
            link_traffic(whole(strategy, demand, Pass::backward));
        for (Rank rank = 0; rank < n; ++rank) {
          const auto sent = [&](const LinkTraffic& traffic, Payload payload) {
            return sent_by(traffic, rank, n, m, payload);
          };
          EXPECT_EQ(sent(forward, Payload::kv).rail, (u - 1) * c);
          EXPECT_EQ(sent(forward, Payload::kv).inside, u * (m - 1) * c);
          EXPECT_EQ(sent(backward, Payload::kv).rail, (u - 2) * c);
          EXPECT_EQ(sent(backward, Payload::kv).inside, u * (m - 1) * c);
          EXPECT_EQ(sent(backward, Payload::kv_grad).rail, (u - 1) * c);
          EXPECT_EQ(sent(backward, Payload::kv_grad).inside, u * (m - 1) * c);
        }
        for (const auto& [link, units] : forward) {
          const auto [from, to] = link;
          if (from / m != to / m) {
            EXPECT_EQ(from % m, to % m);  // on the rail
            EXPECT_EQ(to / m, (from / m + 1) % u);
          } else if (inner == StrategyKind::ring) {
            EXPECT_EQ(to % m, (from + 1) % m);
            EXPECT_EQ(units.at(Payload::kv), (n - u) * c);
          } else {
            EXPECT_EQ(units.at(Payload::kv), u * c);
          }
        }
      }
    }
  }
}

TEST(HierarchicalSchedule, DoubleRingIsOneSliceWithARingInside) {
  for (const Mask& mask : {Mask::full(), Mask::causal()}) {
    const AttentionDemand demand = nodes_demand(3, 3, 1, mask, "zigzag");
    const Strategy double_ring{.kind = StrategyKind::double_ring, .nodes = 3};
    for (const Pass pass : {Pass::forward, Pass::backward}) {
      EXPECT_EQ(whole(double_ring, demand, pass),
                whole(hierarchical(3, 1, StrategyKind::ring), demand, pass));
    }
  }
}

// One node, and nodes of one rank: nothing but a spread, or a ring.
TEST(HierarchicalSchedule, OneNodeAndNodesOfOneRankWork) {
  const AttentionDemand demand =
      nodes_demand(1, 5, 1, Mask::causal(), "zigzag");
  const Schedule one_node = whole(hierarchical(1, 1, StrategyKind::ring),
                                  demand, Pass::forward, false);
  const Schedule ring =
      whole({.kind = StrategyKind::ring}, demand, Pass::forward, false);
  EXPECT_EQ(one_node.steps, ring.steps);
  EXPECT_EQ(one_node.transfers.size(), ring.transfers.size());
  EXPECT_EQ(link_traffic(one_node), link_traffic(ring));
  const Schedule rails = whole(hierarchical(5, 1, StrategyKind::multi_ring),
                               demand, Pass::forward, false);
  EXPECT_EQ(link_traffic(rails), link_traffic(ring));
}

// A slice goes over the rail in every turn; what arrives is spread in the next.
TEST(HierarchicalSchedule, RailsAreBusyInEveryTurn) {
  for (const StrategyKind inner : kInner) {
    const int u = 3, m = 4, slices = 3;
    const Strategy strategy = hierarchical(u, slices, inner);
    const AttentionDemand demand = nodes_demand(u, m, slices);
    const Schedule part = rank_part(strategy, demand, Pass::forward, 5);
    const int turn = inner == StrategyKind::direct ? 1 : m - 1;
    std::set<int> rail_steps;
    for (const Transfer& transfer : part.transfers) {
      if (transfer.from != 5) continue;
      if (transfer.to / m == 1) {
        EXPECT_EQ(transfer.wait_step, transfer.post_step + 1);
        continue;
      }
      EXPECT_EQ(transfer.wait_step, transfer.post_step + turn);
      rail_steps.insert(transfer.post_step);
    }
    std::set<int> want;
    for (int t = 0; t < (u - 1) * slices; ++t) want.insert(t * turn);
    EXPECT_EQ(rail_steps, want);
    EXPECT_EQ(part.steps, ((u - 1) * slices + 1) * turn + 1);
  }
}

// Backward waits for keys half a shard's turns after they left, for sums a
// shard's, when those of the receiver are complete; owners at the end.
TEST(HierarchicalSchedule, BackwardLeavesTheRailsTime) {
  for (const StrategyKind inner : kInner) {
    const int u = 4, m = 3, slices = 5;
    const Strategy strategy = hierarchical(u, slices, inner);
    const Schedule part =
        rank_part(strategy, nodes_demand(u, m, slices), Pass::backward, 4);
    const int turn = inner == StrategyKind::direct ? 1 : m - 1;
    int keys = 0, sums = 0, last_sums = 0;
    for (const Transfer& transfer : part.transfers) {
      if (transfer.from / m == transfer.to / m) continue;
      const int taken = transfer.wait_step - transfer.post_step;
      if (transfer.payload == Payload::kv) {
        EXPECT_EQ(taken, 3 * turn);
        ++keys;
      } else if (transfer.to != transfer.block.owner) {
        EXPECT_EQ(taken, 5 * turn);
        ++sums;
      } else {
        EXPECT_EQ(transfer.wait_step,
                  std::min(part.steps, transfer.post_step + 8 * turn));
        ++last_sums;
      }
    }
    const int strands =
        slices * (inner == StrategyKind::multi_ring ? m - 1 : 1);
    EXPECT_EQ(keys, 2 * (u - 2) * strands);  // in and out
    EXPECT_EQ(sums, 2 * (u - 2) * strands);
    EXPECT_EQ(last_sums, 2 * strands);
  }
}

TEST(HierarchicalSchedule, KeepsOneShardAndAFewSlices) {
  for (const StrategyKind inner : kInner) {
    for (const int slices : {1, 2, 4}) {
      const int u = 3, m = 4;
      const Strategy strategy = hierarchical(u, slices, inner);
      const AttentionDemand demand = nodes_demand(u, m, slices);
      const std::int64_t slice = demand.kv_layout().shard_tokens(0) / slices;
      const bool direct = inner == StrategyKind::direct;
      const int lanes = direct ? m - 1 : 1;
      const int own = direct ? std::min(slices, 2) : 2;
      for (const Rank rank : {0, 5, 11}) {
        const Schedule forward =
            rank_part(strategy, demand, Pass::forward, rank);
        std::int64_t kept = 0;
        for (const Retained& retained : forward.retained) {
          kept += block_size(forward, retained.block);
        }
        EXPECT_EQ(kept, slices * slice);
        // With two nodes nothing but what is retained comes on the rail.
        const int rail = std::min((u - 2) * slices, slices + 1);
        EXPECT_EQ(buffer_bytes(forward, rank, {{Payload::kv, 1}}),
                  (rail + (own + 2) * lanes) * slice + kept);
        const Schedule backward =
            rank_part(strategy, demand, Pass::backward, rank);
        const int half = (slices + 1) / 2;
        EXPECT_EQ(
            buffer_bytes(backward, rank, {{Payload::kv, 1}}),
            (std::min((u - 2) * slices, slices + half) + 2 * lanes) * slice +
                kept);
        const int sums = slices + 1 + (direct ? 2 : 1) + slices / 4;
        EXPECT_EQ(buffer_bytes(backward, rank, {{Payload::kv_grad, 1}}),
                  (std::min(sums, (u - 1) * slices) + slices +
                   (direct ? 3 : 4) * lanes) *
                      slice);
      }
    }
  }
}

// Contiguous and causal: later ranks need a block, so what lies behind the
// owner's node on the rails is cut off, and sent again in backward.
TEST(HierarchicalSchedule, MasksStopParts) {
  const int u = 4, m = 2;
  const Strategy strategy = hierarchical(u, 1, StrategyKind::direct);
  const AttentionDemand demand = nodes_demand(u, m, 1, Mask::causal());
  const std::int64_t c = demand.kv_layout().shard_tokens(0);
  const LinkTraffic forward =
      link_traffic(whole(strategy, demand, Pass::forward));
  // From node 0 to 1: its own blocks; from 2 to 3: those of nodes 0, 1 and 2.
  for (int node = 0; node < u; ++node) {
    EXPECT_EQ(units_of(forward, node * m, (node + 1) % u * m, Payload::kv),
              node + 1 < u ? (node + 1) * c : 0);
  }
  const Schedule backward = whole(strategy, demand, Pass::backward);
  for (const Retained& kept : backward.retained) {
    EXPECT_LT(kept.block.owner, m);  // only node 0's blocks reach node 3
  }
  const LinkTraffic again = link_traffic(backward);
  EXPECT_EQ(units_of(again, 1 * m, 3 * m, Payload::kv), c);
  EXPECT_EQ(units_of(again, 2 * m, 3 * m, Payload::kv), c);
}

// Windows of which only some ranks of a node, without the holder, need a part.
TEST(HierarchicalSchedule, HoldersWithoutUseAddForOthers) {
  int starts = 0;
  for (const StrategyKind inner : kInner) {
    for (const int slices : {1, 2, 3, 5}) {
      for (const int window : {1, 3, 5, 9, 14, 20}) {
        const int u = 4, m = 3, n = u * m;
        const Layout layout = Layout::contiguous(2 * n + 3, n);
        const AttentionDemand demand(
            layout, layout, Mask::full().with_window({window, window / 2}));
        const Strategy strategy = hierarchical(u, slices, inner);
        SCOPED_TRACE(name(strategy));
        const Schedule backward = whole(strategy, demand, Pass::backward);
        ASSERT_NO_THROW(validate(backward, demand, strand_count(strategy, n)));
        for (const Transfer& add : backward.transfers) {
          starts += add.action == Action::add && add.to != add.block.owner &&
                    !demand.needs(add.to, add.block, strand_count(strategy, n));
        }
      }
    }
  }
  EXPECT_GT(starts, 0);
}

TEST(HierarchicalSchedule, IsValidForManyRanks) {
  for (const auto& [nodes, slices, inner] :
       {std::tuple{8, 4, StrategyKind::direct},
        std::tuple{8, 2, StrategyKind::multi_ring},
        std::tuple{4, 1, StrategyKind::ring}}) {
    const Strategy strategy = hierarchical(nodes, slices, inner);
    const AttentionDemand demand =
        nodes_demand(nodes, 64 / nodes, slices, Mask::causal(), "zigzag");
    for (const Pass pass : {Pass::forward, Pass::backward}) {
      EXPECT_NO_THROW(validate(whole(strategy, demand, pass), demand,
                               strand_count(strategy, 64)))
          << name(strategy);
    }
  }
}

}  // namespace
}  // namespace ringweave::schedule
