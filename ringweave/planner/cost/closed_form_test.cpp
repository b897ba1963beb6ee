#include "ringweave/planner/cost/closed_form.h"

#include <algorithm>
#include <tuple>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "ringweave/planner/cost/attention_work.h"
#include "ringweave/planner/cost/balance.h"
#include "ringweave/topology/builtin.h"

namespace ringweave::planner {
namespace {

/// Against pass_cost(), which knows of no symmetry.
struct Both {
  PassCost form;
  PassCost exact;
  double slot_bytes = 0;
  double exact_slot_bytes = 0;
};

Both both(const std::string& strategy_name, const std::string& topology_name,
          schedule::Pass pass, double flops_per_second, double overhead) {
  const topology::Topology topology = topology::builtin(topology_name);
  const Network network(topology);
  const Loads loads(network);
  const int n = topology.ranks();
  const std::int64_t tokens = 840 * n;
  const ModelShape shape{.heads = 4, .kv_heads = 4, .head_dim = 32};
  const schedule::Layout layout = schedule::Layout::contiguous(tokens, n);
  const schedule::AttentionDemand demand(layout, layout,
                                         schedule::Mask::full());
  DeviceTable device_table{.name = "test", .source = "", .dtype = ""};
  device_table.flops_per_second = flops_per_second;
  const schedule::Strategy strategy =
      schedule::strategy_from_name(strategy_name);
  const double block = device_table.tile_seconds(
      840.0 * 840 * 4, 32, pass == schedule::Pass::backward);
  const auto form = closed_form(
      strategy, loads,
      {.pass = pass,
       .kv_bytes = 840.0 * static_cast<double>(shape.kv_token_bytes()),
       .grad_bytes = 840.0 * static_cast<double>(shape.grad_token_bytes()),
       .own_seconds = block,
       .block_seconds = block,
       .message_overhead_seconds = overhead});
  const Traffic traffic =
      attention_traffic(strategy, demand, shape, device_table, pass, overhead);
  return {form->cost,
          pass_cost(traffic, network, {.message_overhead_seconds = overhead}),
          form->slot_bytes, *std::ranges::max_element(traffic.slot_bytes)};
}

class AgainstEventByEvent : public testing::TestWithParam<const char*> {};

TEST_P(AgainstEventByEvent, TimesBytesAndBuffers) {
  for (const char* topology :
       {"mesh:ranks=5,rate=1e9", "mesh:ranks=8,rate=1e9,latency=1e-6",
        "switch:ranks=7,rate=4e9", "mesh:ranks=2,rate=1e9",
        "two_level:nodes=2,ranks=8,rate=1e9,nic=5e8",
        "two_level:nodes=3,ranks=12,rate=1e9,nic=5e8"}) {
    const schedule::Strategy strategy =
        schedule::strategy_from_name(GetParam());
    const topology::Topology built = topology::builtin(topology);
    if (strategy.nodes > 1 && built.nodes() != strategy.nodes) continue;
    if (schedule::why_not(strategy, built.ranks())) continue;
    for (const schedule::Pass pass :
         {schedule::Pass::forward, schedule::Pass::backward}) {
      for (const double flops : {1e9, 1e11, 1e15}) {
        const Both got = both(GetParam(), topology, pass, flops, 1e-7);
        const std::string what = fmt::format(
            "{} on {}, {}, {} FLOP/s", GetParam(), topology, name(pass), flops);
        // Forward, hierarchical schedules pipeline slices, which the form only
        // counts.
        const double slack = strategy.nodes == 1                ? 0.03
                             : pass == schedule::Pass::backward ? 0.08
                                                                : 0.15;
        EXPECT_NEAR(got.form.seconds, got.exact.seconds,
                    slack * got.exact.seconds)
            << what;
        EXPECT_NEAR(got.form.compute_seconds, got.exact.compute_seconds,
                    1e-9 * got.exact.compute_seconds)
            << what;
        for (const auto& [name, bytes] : got.exact.bytes) {
          EXPECT_NEAR(got.form.bytes.at(name).total, bytes.total,
                      0.01 * bytes.total)
              << what << " " << name;
        }
        EXPECT_NEAR(got.slot_bytes, got.exact_slot_bytes,
                    (strategy.nodes > 1 ? 0.1 : 0.01) * got.exact_slot_bytes)
            << what;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    ClosedForm, AgainstEventByEvent,
    testing::Values("ring", "ring_reverse", "multi_ring", "direct", "direct:1",
                    "direct:2", "direct:3", "all_gather", "paths:nodes=2",
                    "double_ring:nodes=3", "hierarchical:nodes=3,slices=1",
                    "hierarchical:nodes=3,slices=4",
                    "hierarchical:nodes=3,slices=3,inner=multi_ring"));

/// Where formulas are used: nodes and meshes of 32 ranks and more, keys of 8192
/// tokens a rank, causal masks, messages that take time to post.
struct Regime {
  const char* topology;
  std::vector<std::string> strategies;
  bool causal;
  double overhead;
  double compute;  ///< over the seconds of receiving all keys at 50 GB/s
};

void expect_close(const Regime& regime) {
  const topology::Topology topology = topology::builtin(regime.topology);
  const Network network(topology);
  const Loads loads(network);
  const int n = topology.ranks();
  constexpr std::int64_t kTokens = 8192;
  const ModelShape shape{.heads = 64, .kv_heads = 8, .head_dim = 128};
  const schedule::Layout layout = schedule::Layout::zigzag(kTokens * n, n);
  const schedule::Mask mask =
      regime.causal ? schedule::Mask::causal() : schedule::Mask::full();
  const schedule::AttentionDemand demand(layout, layout, mask);
  const double own = pair_area(demand, n / 2, n / 2);
  double all = 0;
  for (Rank owner = 0; owner < n; ++owner) {
    all += pair_area(demand, n / 2, owner);
  }
  DeviceTable device_table{.name = "test", .source = "", .dtype = ""};
  const double kv = static_cast<double>(kTokens * shape.kv_token_bytes());
  device_table.flops_per_second = 1e30;
  if (regime.compute > 0) {
    const double flop = 4.0 * 128 * 64 * all;
    device_table.flops_per_second = flop / (regime.compute * n * kv / 5e10);
  }
  for (const std::string& text : regime.strategies) {
    const schedule::Strategy strategy = schedule::strategy_from_name(text);
    for (const schedule::Pass pass :
         {schedule::Pass::forward, schedule::Pass::backward}) {
      const auto seconds = [&](double area) {
        return device_table.tile_seconds(area * 64, 128,
                                         pass == schedule::Pass::backward);
      };
      const double form =
          closed_form(strategy, loads,
                      {.pass = pass,
                       .kv_bytes = kv,
                       .grad_bytes = static_cast<double>(
                           kTokens * shape.grad_token_bytes()),
                       .own_seconds = seconds(own),
                       .block_seconds = seconds((all - own) / (n - 1)),
                       .message_overhead_seconds = regime.overhead,
                       .least_need = least_need(layout, mask)})
              ->cost.seconds;
      const double exact =
          pass_cost(attention_traffic(strategy, demand, shape, device_table,
                                      pass, regime.overhead),
                    network, {.message_overhead_seconds = regime.overhead})
              .seconds;
      const std::string what = fmt::format(
          "{} on {}, {}, {}, overhead {}, compute {}", text, regime.topology,
          name(pass), regime.causal ? "causal" : "full", regime.overhead,
          regime.compute);
      // docs/algorithms.md, "Cost model"; the planner's kCoarse.
      EXPECT_GE(form, 0.85 * exact) << what;
      EXPECT_LE(form, 1.14 * exact) << what;
    }
  }
}

TEST(ClosedForm, WhereItIsUsed) {
  const std::vector<std::string> flat = {
      "multi_ring", "time_varying_multi_ring",
      "ring",       "ring_reverse",
      "direct:1",   "direct:2",
      "direct",     "all_gather"};
  std::vector<std::string> nodes = flat;
  for (const char* name :
       {"paths:nodes=4", "double_ring:nodes=4", "hierarchical:nodes=4,slices=1",
        "hierarchical:nodes=4,slices=4", "hierarchical:nodes=4,slices=8",
        "hierarchical:nodes=4,slices=1,inner=multi_ring",
        "hierarchical:nodes=4,slices=4,inner=multi_ring",
        "hierarchical:nodes=4,slices=8,inner=multi_ring"}) {
    nodes.emplace_back(name);
  }
  for (const auto& [causal, overhead, compute] : {std::tuple{true, 0.0, 0.0},
                                                  {true, 3e-6, 0.0},
                                                  {true, 3e-6, 0.05},
                                                  {false, 3e-6, 0.0}}) {
    expect_close({"dgx-h100:nodes=4", nodes, causal, overhead, compute});
    expect_close({"mesh:ranks=32,rate=5e10", flat, causal, overhead, compute});
    expect_close(
        {"switch:ranks=32,rate=5e10", flat, causal, overhead, compute});
  }
}

TEST(ClosedForm, Of64Ranks) {
  for (const double overhead : {0.0, 3e-6}) {
    expect_close(
        {"dgx-h100:nodes=8",
         {"multi_ring", "direct:8", "direct", "paths:nodes=8",
          "hierarchical:nodes=8,slices=4", "hierarchical:nodes=8,slices=8",
          "hierarchical:nodes=8,slices=1,inner=multi_ring",
          "hierarchical:nodes=8,slices=4,inner=multi_ring",
          "hierarchical:nodes=8,slices=8,inner=multi_ring"},
         true,
         overhead,
         0});
  }
}

TEST(Loads, AFabricEqualsItsLinks) {
  for (const char* text :
       {"mesh:ranks=8,rate=3e9,latency=1e-6", "switch:ranks=6,rate=1e9",
        "two_level:nodes=3,ranks=12,rate=1e9,nic=5e8",
        "two_level:nodes=2,ranks=8,rate=1e9,nic=5e8,nics=2"}) {
    const topology::Topology topology = topology::builtin(text);
    const Network network(topology);
    const Loads linked(network);
    const Loads symbolic(*topology.fabric());
    const int n = topology.ranks();
    const auto same = [&](const Load& a, const Load& b, const char* what) {
      EXPECT_NEAR(a.seconds(), b.seconds(), 1e-9 * a.seconds())
          << text << " " << what;
      for (const auto& [name, bytes] : a.bytes) {
        EXPECT_NEAR(b.bytes.at(name).total, bytes.total, 1e-9)
            << text << " " << what << " " << name;
        EXPECT_NEAR(b.bytes.at(name).busiest, bytes.busiest, 1e-9)
            << text << " " << what << " " << name;
      }
    };
    same(linked.pairs(n), symbolic.pairs(n), "all pairs");
    same(linked.from_last(), symbolic.from_last(), "from the last");
    same(linked.shift(1, n), symbolic.shift(1, n), "next");
    same(linked.shift(n - 1, n), symbolic.shift(n - 1, n), "before");
    same(linked.shift(4, n), symbolic.shift(4, n), "next node");
    EXPECT_EQ(linked.ranks_per_node(), symbolic.ranks_per_node()) << text;
    EXPECT_DOUBLE_EQ(linked.latency(), symbolic.latency()) << text;
    EXPECT_DOUBLE_EQ(linked.best_in_rate(), symbolic.best_in_rate()) << text;
  }
}

TEST(Loads, ATorusCountsTheMeanOfItsLinks) {
  const topology::Topology topology =
      topology::builtin("torus:dimensions=4x4,rate=1e9");
  const Network network(topology);
  const Load linked = Loads(network).pairs(16);
  const Load symbolic = Loads(*topology.fabric()).pairs(16);
  EXPECT_NEAR(symbolic.bytes.at("link").total, linked.bytes.at("link").total,
              1e-9);
  // Routes break ties one way, so some links carry more than the mean.
  EXPECT_LE(symbolic.seconds(), linked.seconds());
  const Load to_all = Loads(*topology.fabric()).from_last();
  EXPECT_NEAR(to_all.bytes.at("link").total,
              Loads(network).from_last().bytes.at("link").total, 1e-9);
  EXPECT_LE(to_all.seconds(), Loads(network).from_last().seconds());
}

}  // namespace
}  // namespace ringweave::planner
