#include "ringweave/sim/link_rates.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "ringweave/schedule/strategy/strategy.h"
#include "ringweave/sim/simulate.h"
#include "ringweave/topology/builtin.h"

namespace ringweave::sim {
namespace {

using Changes = std::vector<std::pair<double, double>>;

// 10 bytes a unit.
const planner::Workload kTenBytes{
    .unit_bytes = {{schedule::Payload::kv, 10},
                   {schedule::Payload::kv_grad, 20}}};

void expect_changes(const std::vector<RateChange>& got, const Changes& want) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_NEAR(got[i].seconds, want[i].first, 1e-9);
    EXPECT_NEAR(got[i].bytes_per_second, want[i].second, 1e-6);
  }
}

/// Ranks 0, 1 and 2 reach each other over ports of 1000 bytes per second.
topology::Topology star(double latency) {
  topology::Topology::Spec spec;
  spec.name = "star";
  using topology::VertexKind;
  spec.vertices = {{VertexKind::rank, "a"},
                   {VertexKind::rank, "b"},
                   {VertexKind::rank, "c"},
                   {VertexKind::switch_, "s"}};
  spec.links = {{0, 3, 1000, 0, "port"},
                {1, 3, 1000, latency, "port"},
                {3, 2, 1000, 0, "port"},
                {3, 1, 1000, 0, "port"}};
  return topology::Topology(std::move(spec));
}

/// Blocks of 100 units, all posted at once: (from, to, wait step) of each.
schedule::Schedule messages(const std::vector<std::array<int, 3>>& wanted) {
  schedule::Schedule schedule;
  schedule.ranks = 3;
  schedule.steps = 2;
  int strand = 0;
  for (const auto& [from, to, wait_step] : wanted) {
    const schedule::BlockId block{from, strand++, 0};
    schedule.blocks.push_back({block, 100});
    schedule.transfers.push_back(
        {.from = from, .to = to, .block = block, .wait_step = wait_step});
  }
  std::ranges::sort(schedule.blocks, {}, &schedule::Block::id);
  std::ranges::sort(schedule.transfers,
                    [](auto& a, auto& b) { return schedule::before(a, b); });
  return schedule;
}

TEST(LinkRates, TwoMessagesThatShareALink) {
  SimulationOptions options;
  options.link_rates = true;
  const Timeline timeline = simulate(messages({{0, 2, 1}, {1, 2, 1}}),
                                     star(0.25), kTenBytes, options);
  ASSERT_EQ(timeline.rates.size(), 4);
  // Rank 0's is alone until 0.25 s, rank 1's from 1.75 s on.
  expect_changes(timeline.rates[0], {{0, 1000}, {0.25, 500}, {1.75, 0}});
  expect_changes(timeline.rates[1], {{0.25, 500}, {1.75, 1000}, {2, 0}});
  expect_changes(timeline.rates[2], {{0, 1000}, {2, 0}});
  EXPECT_TRUE(timeline.rates[3].empty());
}

TEST(LinkRates, AreNotWorkedOutUnasked) {
  EXPECT_TRUE(
      simulate(messages({{0, 2, 1}}), star(0), kTenBytes).rates.empty());
}

TEST(LinkRates, EndAtAFailureAndWhereNobodySeesTheEnd) {
  SimulationOptions options;
  options.link_rates = true;
  options.failing_links = {{3, 2, 0.5}};
  // All wait for ever for what goes to rank 2; rank 0's message to rank 1 would
  // be waited for in step 2 only.
  const Timeline timeline = simulate(
      messages({{0, 2, 1}, {1, 2, 1}, {0, 1, 2}}), star(0), kTenBytes, options);
  EXPECT_EQ(timeline.stuck.size(), 3);
  expect_changes(timeline.rates[0], {{0, 1000}, {1.25, 0}});
  expect_changes(timeline.rates[1], {{0, 500}, {0.5, 0}});
  expect_changes(timeline.rates[2], {{0, 1000}, {0.5, 0}});
  expect_changes(timeline.rates[3], {{0, 500}, {0.5, 1000}, {1.25, 0}});
}

TEST(LinkRates, AddUpToTheBytesOfEveryLink) {
  for (const char* place :
       {"mesh:ranks=5,rate=1e9,latency=2e-6", "switch:ranks=7,rate=1e9",
        "two_level:nodes=3,ranks=12,rate=1e9,nic=2.5e8,nic_latency=5e-6",
        "dgx-1"}) {
    const auto machine = topology::builtin(place);
    const auto layout = schedule::Layout::zigzag(5000, machine.ranks());
    const schedule::AttentionDemand demand(layout, layout,
                                           schedule::Mask::causal());
    for (const char* name : {"ring", "multi_ring", "direct:3", "all_gather"}) {
      for (const schedule::Pass pass :
           {schedule::Pass::forward, schedule::Pass::backward}) {
        SCOPED_TRACE(
            fmt::format("{} on {}, {}", name, place, schedule::name(pass)));
        SimulationOptions options;
        options.link_rates = true;
        const Timeline timeline = simulate(
            schedule::whole(schedule::strategy_from_name(name), demand, pass),
            machine, kTenBytes, options);
        for (const LinkUse& use : timeline.links) {
          const auto& changes = timeline.rates[use.link];
          double bytes = 0;
          for (std::size_t i = 0; i + 1 < changes.size(); ++i) {
            bytes += changes[i].bytes_per_second *
                     (changes[i + 1].seconds - changes[i].seconds);
            EXPECT_LE(changes[i].bytes_per_second,
                      machine.links()[use.link].bytes_per_second * (1 + 1e-9));
          }
          EXPECT_NEAR(bytes, static_cast<double>(use.bytes),
                      1e-6 * static_cast<double>(use.bytes));
          if (!changes.empty()) {
            EXPECT_EQ(changes.back().bytes_per_second, 0);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace ringweave::sim
