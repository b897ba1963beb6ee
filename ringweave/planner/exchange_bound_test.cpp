#include "ringweave/planner/exchange_bound.h"

#include <algorithm>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "ringweave/planner/cost/balance.h"
#include "ringweave/planner/demand_bytes.h"
#include "ringweave/planner/planner.h"
#include "ringweave/schedule/test_cases.h"
#include "ringweave/topology/lower_bound.h"

namespace ringweave::planner {
namespace {

/// Softmax layers whose computing takes no time.
LayerPlan exchanges(const Machine& machine, const schedule::Layout& layout,
                    const schedule::Mask& mask) {
  return make_plan({.machine = machine,
                    .shape = {.layers = 1,
                              .pattern = "N",
                              .heads = 8,
                              .kv_heads = 2,
                              .head_dim = 16},
                    .layout = layout,
                    .mask = mask,
                    .device_table =
                        load_device_table("custom:rate=1e24,efficiency=1")})
      .softmax;
}

void expect_unbeaten(const LayerPlan& plan, const std::string& what) {
  for (const Candidate& c : plan.candidates) {
    // Other splits than the layout's are not bound by its shards.
    if (!c.strategy || c.verdict == Verdict::impossible) continue;
    EXPECT_GE(c.forward.seconds, plan.exchange_bound * (1 - 1e-9))
        << what << ", " << c.name;
    EXPECT_GE(c.backward.seconds, plan.backward_bound * (1 - 1e-9))
        << what << ", " << c.name;
  }
}

const std::vector<std::string> kMachines = {
    "mesh:ranks=5,rate=1e9",
    "switch:ranks=6,rate=1e9",
    "ring:ranks=4,rate=1e9",
    "torus:dimensions=3x3,rate=1e9",
    "two_level:nodes=2,ranks=6,rate=1e9,nic=2e8",
    "two_level:nodes=3,ranks=6,rate=1e9,nic=2e8,nics=1",
    "dgx-1"};

/// Each run of a random length on a random rank; some ranks get none.
schedule::Layout random_layout(std::int64_t tokens, int ranks,
                               std::mt19937_64& random) {
  std::vector<std::vector<schedule::Run>> runs(ranks);
  const int crowded = 1 + static_cast<int>(random() % ranks);
  for (std::int64_t begin = 0; begin < tokens;) {
    const auto longest = static_cast<std::int64_t>(1 + random() % tokens);
    const auto length = std::min<std::int64_t>(longest, tokens - begin);
    std::vector<schedule::Run>& of_rank = runs[random() % crowded];
    if (!of_rank.empty() && of_rank.back().end() == begin) {
      of_rank.back().length += length;
    } else {
      of_rank.push_back({begin, length, 1});
    }
    begin += length;
  }
  return schedule::Layout::from_runs(tokens, std::move(runs));
}

TEST(ExchangeBound, NoCandidateBeatsItOnAnyLayout) {
  std::mt19937_64 random(7);
  for (const std::string& name : kMachines) {
    const Machine machine = load_machine(name);
    for (int i = 0; i < 12; ++i) {
      const auto tokens = static_cast<std::int64_t>(1 + random() % 400);
      auto layouts = schedule::test_layouts(tokens, machine.ranks());
      layouts.emplace_back("random",
                           random_layout(tokens, machine.ranks(), random));
      const auto masks = schedule::test_masks(tokens);
      const auto& [layout_name, layout] = layouts[random() % layouts.size()];
      const auto& [mask_name, mask] = masks[random() % masks.size()];
      expect_unbeaten(exchanges(machine, layout, mask),
                      fmt::format("{}, {} tokens, {}, {}", name, tokens,
                                  layout_name, mask_name));
    }
  }
}

TEST(Balance, ShardsOfNamedLayoutsAreEven) {
  for (int ranks = 1; ranks <= 9; ++ranks) {
    for (std::int64_t tokens = 0; tokens <= 60; ++tokens) {
      for (const char* name : {"contiguous", "zigzag", "striped"}) {
        EXPECT_TRUE(
            has_even_shards(schedule::Layout::named(name, tokens, ranks)))
            << name << " " << tokens << " " << ranks;
      }
    }
  }
  // Two apart: 1, 2, 0, 2, 1.
  EXPECT_EQ(shortest_shard(schedule::Layout::zigzag(6, 5)), 0);
  EXPECT_EQ(longest_shard(schedule::Layout::zigzag(6, 5)), 2);
  EXPECT_FALSE(has_even_shards(schedule::Layout::contiguous({3, 0, 3})));
}

TEST(ExchangeBound, OneRankThatHoldsAllNeedsNothing) {
  for (const std::string& name : kMachines) {
    const Machine machine = load_machine(name);
    std::vector<std::int64_t> lengths(machine.ranks(), 0);
    lengths[1] = 1000;
    const schedule::Layout layout = schedule::Layout::contiguous(lengths);
    const schedule::AttentionDemand demand(layout, layout,
                                           schedule::Mask::full());
    for (const schedule::Pass pass :
         {schedule::Pass::forward, schedule::Pass::backward}) {
      EXPECT_DOUBLE_EQ(exchange_bound(machine, demand, pass, 4), 0) << name;
    }
  }
}

TEST(ExchangeBound, UnevenShardsByMaximumFlow) {
  // Rank 0 has 3 of 4 parts; each other rank receives them over one link.
  const Machine machine = load_machine("mesh:ranks=4,rate=10");
  const schedule::Layout layout =
      schedule::Layout::contiguous({600, 100, 100, 0});
  const schedule::AttentionDemand demand(layout, layout,
                                         schedule::Mask::full());
  // Rank 1 takes 700 bytes over 3 links, since others pass rank 0's on.
  EXPECT_NEAR(exchange_bound(machine, demand, schedule::Pass::forward, 1),
              700 / 30.0, 1e-9);
}

TEST(ExchangeBound, EvenShardsByClosedForm) {
  const Machine machine = load_machine("switch:ranks=4,rate=10");
  const schedule::Layout layout = schedule::Layout::zigzag(402, 4);
  const schedule::AttentionDemand demand(layout, layout,
                                         schedule::Mask::causal());
  EXPECT_NEAR(exchange_bound(machine, demand, schedule::Pass::forward, 1), 30.0,
              1e-9);
}

TEST(ExchangeBound, ManyRanksByWhatEntersThem) {
  const Machine machine = load_machine("mesh:ranks=70,rate=10");
  std::vector<std::int64_t> lengths(70, 0);
  lengths[0] = 700;
  lengths[1] = 690;
  const schedule::Layout layout = schedule::Layout::contiguous(lengths);
  const schedule::AttentionDemand causal(layout, layout,
                                         schedule::Mask::causal());
  const topology::DemandBytes bytes = demand_bytes(causal, 1);
  EXPECT_DOUBLE_EQ(exchange_bound(machine, causal, schedule::Pass::forward, 1),
                   700 / 690.0);
  EXPECT_LE(topology::ingress_bound(*machine.topology, bytes).seconds,
            topology::lower_bound(*machine.topology, bytes).seconds);
  // What enters a node counts too.
  lengths[1] = 0;
  lengths[35] = 690;
  const schedule::Layout apart = schedule::Layout::contiguous(lengths);
  EXPECT_DOUBLE_EQ(
      exchange_bound(
          load_machine("two_level:nodes=2,ranks=70,rate=1000,nic=1,nics=1"),
          schedule::AttentionDemand(apart, apart, schedule::Mask::full()),
          schedule::Pass::forward, 1),
      700);
}

}  // namespace
}  // namespace ringweave::planner
