// The cost model against the simulator: hundreds of random cases.
#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "ringweave/base/long_form.h"
#include "ringweave/planner/cost/attention_work.h"
#include "ringweave/planner/cost/cost.h"
#include "ringweave/sim/simulate.h"
#include "ringweave/topology/builtin.h"

namespace ringweave::cli {
namespace {

using schedule::Layout;
using schedule::Mask;
using schedule::Pass;
using schedule::Strategy;

/// docs/algorithms.md says what makes the two differ.
constexpr double kClose = 0.05;
/// Of the few cases in which posting messages takes longer than moving them.
constexpr double kPosting = 0.22;
constexpr int kMaxPosting = 1;

const char* const kTopologies[] = {
    "mesh:ranks=2,rate=1e9",
    "mesh:ranks=5,rate=1e9,latency=2e-6",
    "mesh:ranks=8,rate=1e9",
    "switch:ranks=7,rate=1e9",
    "switch:ranks=9,rate=1e9,latency=3e-6",
    "switch:ranks=16,rate=4.5e11,latency=2e-6",
    "ring:ranks=6,rate=1e9",
    "torus:dimensions=3x3,rate=1e9",
    "two_level:nodes=2,ranks=8,rate=1e9,nic=5e8",
    "two_level:nodes=3,ranks=12,rate=1e9,nic=2.5e8,nic_latency=5e-6",
    "dgx-1"};

/// Draws of one case; all of them from one seed.
struct Draw {
  std::mt19937 random;

  int below(int count) {
    return static_cast<int>(random() % static_cast<unsigned>(count));
  }
  template <typename T>
  const T& of(const std::vector<T>& values) {
    return values[below(static_cast<int>(values.size()))];
  }
};

std::vector<Strategy> strategies(int ranks, int nodes) {
  std::vector<std::string> names = {
      "ring",     "ring_reverse", "multi_ring", "time_varying_multi_ring",
      "direct:1", "direct:3",     "direct",     "all_gather"};
  if (nodes > 1) {
    for (const char* name :
         {"paths:nodes={}", "double_ring:nodes={}", "hierarchical:nodes={}",
          "hierarchical:nodes={},slices=2,inner=multi_ring"}) {
      names.push_back(fmt::format(fmt::runtime(name), nodes));
    }
  }
  std::vector<Strategy> possible;
  for (const std::string& name : names) {
    const Strategy strategy = schedule::strategy_from_name(name);
    if (!schedule::why_not(strategy, ranks)) possible.push_back(strategy);
  }
  return possible;
}

struct Case {
  topology::Topology topology;
  Strategy strategy;
  schedule::AttentionDemand demand;
  planner::ModelShape shape;
  planner::DeviceTable device_table;
  Pass pass;
  double overhead;
  std::string name;
};

Case draw_case(unsigned seed) {
  Draw draw{std::mt19937(seed)};
  const std::string place = kTopologies[draw.below(std::size(kTopologies))];
  topology::Topology topology = topology::builtin(place);
  const int n = topology.ranks();
  const Strategy strategy = draw.of(strategies(n, topology.nodes()));
  const std::int64_t tokens = n * 40 + draw.below(1000);
  const std::string layout_name =
      draw.of<std::string>({"contiguous", "zigzag", "striped"});
  const Layout layout = Layout::named(layout_name, tokens, n);
  const Mask mask = draw.of<Mask>(
      {Mask::full(), Mask::causal(),
       Mask::causal().with_window({tokens / 3, {}}),
       Mask::causal().with_documents({0, tokens / 4, tokens / 2, tokens})});
  planner::ModelShape shape{.heads = 8, .kv_heads = 2, .head_dim = 64};
  // Compute over transfers: from none to more than them.
  const double ratio = draw.of<double>({1e-3, 0.3, 1, 3});
  const double bytes =
      static_cast<double>(tokens * shape.kv_token_bytes()) / 1e9;
  const double flop = 4.0 * 64 * 8 * static_cast<double>(tokens * tokens) / n;
  planner::DeviceTable device_table{.name = "drawn", .source = "", .dtype = ""};
  device_table.flops_per_second = flop / (ratio * bytes);
  const Pass pass = draw.below(2) == 0 ? Pass::forward : Pass::backward;
  const double overhead = draw.of<double>({0, 1e-6, 4e-6});
  return {
      std::move(topology),
      strategy,
      schedule::AttentionDemand(layout, layout, mask),
      shape,
      device_table,
      pass,
      overhead,
      fmt::format("{} {} {} {} {} {} tokens, compute {}, overhead {}", place,
                  schedule::name(strategy), schedule::name(pass), layout_name,
                  mask.to_json().dump(), tokens, ratio, overhead)};
}

double predicted(const Case& c) {
  const planner::Network network(c.topology);
  return planner::pass_cost(
             planner::attention_traffic(c.strategy, c.demand, c.shape,
                                        c.device_table, c.pass, c.overhead),
             network, {.message_overhead_seconds = c.overhead})
      .seconds;
}

double simulated(const Case& c) {
  const int n = c.topology.ranks();
  const int strands = schedule::strand_count(c.strategy, n);
  return sim::simulate(
             schedule::whole(c.strategy, c.demand, c.pass), c.topology,
             planner::attention_workload(c.demand, strands, c.shape,
                                         c.device_table, c.pass, c.overhead))
      .seconds;
}

TEST(CostVsSim, HundredsOfRandomCases) {
  constexpr int kCases = 400;
  double worst = 0;
  int far = 0;
  for (int seed = 0; seed < kCases; ++seed) {
    const Case c = draw_case(static_cast<unsigned>(seed));
    const double want = simulated(c);
    const double got = predicted(c);
    worst = std::max(worst, std::abs(got / want - 1));
    EXPECT_NEAR(got, want, kPosting * want) << c.name;
    if (std::abs(got - want) <= kClose * want) continue;
    ++far;
    EXPECT_GT(c.overhead, 0) << c.name;
  }
  EXPECT_LE(far, kMaxPosting);
  RecordProperty("worst", fmt::format("{:.4f}", worst));
  RecordProperty("far", far);
}

// At 32 and 64 ranks rates are set at intervals: the other approximation. Those
// of 64, which take a minute and a half, with RINGWEAVE_LONG=1.
TEST(CostVsSim, ManyRanks) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "takes minutes, on paths that the random cases take too";
#endif
  struct Large {
    const char* topology;
    const char* strategy;
    Pass pass;
  };
  constexpr double kOverhead = 3e-6;
  for (const Large& large : {
           Large{"dgx-h100:nodes=4", "multi_ring", Pass::forward},
           {"dgx-h100:nodes=4", "hierarchical:nodes=4,slices=4", Pass::forward},
           {"dgx-h100:nodes=4",
            "hierarchical:nodes=4,slices=4,inner=multi_ring", Pass::backward},
           {"mesh:ranks=32,rate=5e10", "multi_ring", Pass::backward},
           {"switch:ranks=32,rate=5e10", "direct:8", Pass::forward},
           {"dgx-h100:nodes=8", "paths:nodes=8", Pass::backward},
           {"dgx-h100:nodes=8",
            "hierarchical:nodes=8,slices=4,inner=multi_ring", Pass::forward},
           {"dgx-h100:nodes=8",
            "hierarchical:nodes=8,slices=4,inner=multi_ring", Pass::backward},
       }) {
    topology::Topology topology = topology::builtin(large.topology);
    if (topology.ranks() > 32 && !long_form()) continue;
    const int n = topology.ranks();
    const Layout layout = Layout::zigzag(8192 * n, n);
    const Case c{
        std::move(topology),
        schedule::strategy_from_name(large.strategy),
        schedule::AttentionDemand(layout, layout, Mask::causal()),
        {.heads = 64, .kv_heads = 8, .head_dim = 128},
        {.name = "none", .source = "", .dtype = "", .flops_per_second = 1e30},
        large.pass,
        kOverhead,
        fmt::format("{} {} {}", large.topology, large.strategy,
                    schedule::name(large.pass))};
    const double want = simulated(c);
    EXPECT_NEAR(predicted(c), want, kClose * want) << c.name;
  }
}

}  // namespace
}  // namespace ringweave::cli
