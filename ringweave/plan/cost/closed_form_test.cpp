#include "ringweave/plan/cost/closed_form.h"

#include <algorithm>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "ringweave/plan/cost/attention_work.h"
#include "ringweave/topology/builtin.h"

namespace ringweave::plan {
namespace {

/// Against the recurrence, which knows of no symmetry.
struct Both {
  PassCost form;
  PassCost exact;
  double slot_bytes = 0;
  double exact_slot_bytes = 0;
};

Both both(const std::string& strategy_name, const std::string& topology_name,
          Pass pass, double flops_per_second, double overhead) {
  const topology::Topology topology = topology::builtin(topology_name);
  const Network network(topology);
  const Loads loads(network);
  const int n = topology.ranks();
  const std::int64_t tokens = 840 * n;
  const ModelShape shape{.heads = 4, .kv_heads = 4, .head_dim = 32};
  const Layout layout = Layout::contiguous(tokens, n);
  const AttentionDemand demand(layout, layout, Mask::full());
  Device device{.name = "test", .source = "", .dtype = ""};
  device.flops_per_second = flops_per_second;
  const Strategy strategy = strategy_from_name(strategy_name);
  const double block =
      device.tile_seconds(840.0 * 840 * 4, 32, pass == Pass::backward);
  const auto form = closed_form(
      strategy, loads,
      {.pass = pass,
       .kv_bytes = 840.0 * static_cast<double>(shape.kv_token_bytes()),
       .grad_bytes = 840.0 * static_cast<double>(shape.grad_token_bytes()),
       .own_seconds = block,
       .block_seconds = block,
       .message_overhead_seconds = overhead});
  const Traffic traffic =
      attention_traffic(strategy, demand, shape, device, pass, overhead);
  return {form->cost,
          pass_cost(traffic, network, {.message_overhead_seconds = overhead}),
          form->slot_bytes, *std::ranges::max_element(traffic.slot_bytes)};
}

class AgainstTheRecurrence : public testing::TestWithParam<const char*> {};

TEST_P(AgainstTheRecurrence, TimesBytesAndBuffers) {
  for (const char* topology :
       {"mesh:ranks=5,rate=1e9", "mesh:ranks=8,rate=1e9,latency=1e-6",
        "switch:ranks=7,rate=4e9", "mesh:ranks=2,rate=1e9",
        "two_level:nodes=2,ranks=8,rate=1e9,nic=5e8",
        "two_level:nodes=3,ranks=12,rate=1e9,nic=5e8"}) {
    const Strategy strategy = strategy_from_name(GetParam());
    const topology::Topology built = topology::builtin(topology);
    if (strategy.nodes > 1 && built.nodes() != strategy.nodes) continue;
    if (why_not(strategy, built.ranks())) continue;
    for (const Pass pass : {Pass::forward, Pass::backward}) {
      for (const double flops : {1e9, 1e11, 1e15}) {
        const Both got = both(GetParam(), topology, pass, flops, 1e-7);
        const std::string what = fmt::format(
            "{} on {}, {}, {} FLOP/s", GetParam(), topology, name(pass), flops);
        // Forward, hierarchical schedules pipeline slices, which the form only
        // counts.
        const double slack = strategy.nodes == 1      ? 0.03
                             : pass == Pass::backward ? 0.08
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
    ClosedForm, AgainstTheRecurrence,
    testing::Values("ring", "ring_reverse", "multi_ring", "direct", "direct:1",
                    "direct:2", "direct:3", "all_gather", "paths:nodes=2",
                    "double_ring:nodes=3", "hierarchical:nodes=3,slices=1",
                    "hierarchical:nodes=3,slices=4",
                    "hierarchical:nodes=3,slices=3,inner=multi_ring"));

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
}

}  // namespace
}  // namespace ringweave::plan
