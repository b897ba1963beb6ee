#include "ringweave/planner/cost/cost.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "ringweave/schedule/program/program.h"
#include "ringweave/schedule/strategy/strategy.h"
#include "ringweave/schedule/test_cases.h"

namespace ringweave::planner {
namespace {

using topology::Topology;
using topology::VertexKind;

Topology mesh(int n, double rate, double latency = 0) {
  Topology::Spec spec{
      .name = "mesh", .source = "", .vertices = {}, .links = {}};
  for (int i = 0; i < n; ++i) {
    spec.vertices.push_back({VertexKind::rank, "r" + std::to_string(i), 0});
    for (int j = 0; j < n; ++j) {
      if (i != j) spec.links.push_back({i, j, rate, latency, "link"});
    }
  }
  return Topology(std::move(spec));
}

/// Ranks on one switch whose ports carry `rate`.
Topology star(int n, double rate) {
  Topology::Spec spec{
      .name = "star", .source = "", .vertices = {}, .links = {}};
  for (int i = 0; i < n; ++i) {
    spec.vertices.push_back({VertexKind::rank, "r" + std::to_string(i), 0});
    spec.links.push_back({i, n, rate, 0, "port"});
    spec.links.push_back({n, i, rate, 0, "port"});
  }
  spec.vertices.push_back({VertexKind::switch_, "switch", 0});
  return Topology(std::move(spec));
}

Traffic traffic(const std::string& strategy, int ranks, std::int64_t tokens,
                schedule::Pass pass, const Workload& workload) {
  const schedule::Layout layout = schedule::Layout::contiguous(tokens, ranks);
  const schedule::AttentionDemand demand(layout, layout,
                                         schedule::Mask::full());
  const schedule::Strategy s = schedule::strategy_from_name(strategy);
  return traffic_of(whole(s, demand, pass), demand,
                    schedule::strand_count(s, ranks), workload);
}

Workload unit_workload() {
  return {.unit_bytes = {{schedule::Payload::kv, 1},
                         {schedule::Payload::kv_grad, 2}}};
}

double pass_seconds(const std::string& strategy, const Topology& topology,
                    std::int64_t tokens, schedule::Pass pass,
                    const Workload& workload) {
  return pass_cost(
             traffic(strategy, topology.ranks(), tokens, pass, workload),
             Network(topology),
             {.message_overhead_seconds = workload.message_overhead_seconds})
      .seconds;
}

// Shards of 70 bytes on links of 1 byte per second, by hand.
TEST(PassCost, ForwardOnAMesh) {
  const Topology topology = mesh(8, 1);
  const auto forward = [&](const char* strategy) {
    return pass_seconds(strategy, topology, 560, schedule::Pass::forward,
                        unit_workload());
  };
  EXPECT_DOUBLE_EQ(forward("ring"), 7 * 70);
  EXPECT_DOUBLE_EQ(forward("multi_ring"), 70);
  EXPECT_DOUBLE_EQ(forward("direct"), 70);
  EXPECT_DOUBLE_EQ(forward("all_gather"), 70);
}

// However rarely rates are set right, no link carries more than it can.
TEST(PassCost, NeverFasterThanTheBusiestLink) {
  for (const Topology& topology : {star(12, 1), star(9, 3)}) {
    const Network network(topology);
    Workload workload = unit_workload();
    // Ranks that are out of step, so that messages start at other times.
    workload.tile_work = [](const schedule::Tile& tile) {
      return 0.2 * ((tile.rank * 5 + tile.step * 3) % 11);
    };
    for (const char* strategy : {"direct", "direct:3", "multi_ring", "ring"}) {
      for (const schedule::Pass pass :
           {schedule::Pass::forward, schedule::Pass::backward}) {
        const Traffic all =
            traffic(strategy, topology.ranks(), 990, pass, workload);
        std::vector<double> load(network.resources());
        for (const Flow& flow : all.flows) {
          for (const int link : network.route(flow.from, flow.to)) {
            load[link] += flow.bytes / network.capacity(link);
          }
        }
        for (const double budget : {1.0, 30.0, 300.0, 3000.0, 1e6}) {
          EXPECT_GE(pass_cost(all, network,
                              {.least_budget = budget, .visits_per_hop = 0})
                        .seconds,
                    *std::ranges::max_element(load) * (1 - 1e-9))
              << strategy << " " << budget;
        }
      }
    }
  }
}

TEST(PassCost, BackwardOnAMesh) {
  const Topology topology = mesh(8, 1);
  // The ring hops K, V six times and gradients of twice the size seven times,
  // the first K, V hop alone, the last gradient alone.
  EXPECT_DOUBLE_EQ(pass_seconds("ring", topology, 560, schedule::Pass::backward,
                                unit_workload()),
                   6 * 70 + 7 * 140);
  EXPECT_DOUBLE_EQ(pass_seconds("all_gather", topology, 560,
                                schedule::Pass::backward, unit_workload()),
                   140);
}

TEST(PassCost, ASwitchGivesNoneMoreThanItsPort) {
  const Topology topology = star(4, 1);
  for (const char* strategy : {"ring", "multi_ring", "direct", "all_gather"}) {
    EXPECT_NEAR(pass_seconds(strategy, topology, 480, schedule::Pass::forward,
                             unit_workload()),
                3 * 120, 1e-6)
        << strategy;
  }
}

TEST(PassCost, ComputeHidesBehindTransfersOrTheyBehindIt) {
  const Topology topology = mesh(5, 1);
  Workload workload = unit_workload();
  workload.tile_work = [](const schedule::Tile&) { return 4.0; };
  // 10 bytes per hop: four hops, then the last tile.
  EXPECT_DOUBLE_EQ(
      pass_seconds("ring", topology, 50, schedule::Pass::forward, workload),
      4 * 10 + 4);
  workload.tile_work = [](const schedule::Tile&) { return 40.0; };
  EXPECT_DOUBLE_EQ(
      pass_seconds("ring", topology, 50, schedule::Pass::forward, workload),
      5 * 40);
}

TEST(PassCost, OverheadAndLatencyPerMessage) {
  Workload workload = unit_workload();
  workload.message_overhead_seconds = 0.5;
  EXPECT_DOUBLE_EQ(pass_seconds("ring", mesh(3, 1, 0.25), 30,
                                schedule::Pass::forward, workload),
                   2 * (0.5 + 0.25 + 10));
  // The second of two sends is posted half a second after the first.
  EXPECT_DOUBLE_EQ(pass_seconds("all_gather", mesh(3, 1, 0.25), 30,
                                schedule::Pass::forward, workload),
                   2 * 0.5 + 0.25 + 10);
}

TEST(PassCost, FewerSettingsOfRatesChangeLittle) {
  const Topology topology = star(6, 1);
  const schedule::Layout layout = schedule::Layout::zigzag(1200, 6);
  const schedule::AttentionDemand demand(layout, layout,
                                         schedule::Mask::causal());
  const Workload workload = unit_workload();
  const Network network(topology);
  for (const char* name : {"direct", "multi_ring"}) {
    const schedule::Strategy strategy = schedule::strategy_from_name(name);
    for (const schedule::Pass pass :
         {schedule::Pass::forward, schedule::Pass::backward}) {
      const Traffic traffic =
          traffic_of(whole(strategy, demand, pass), demand,
                     schedule::strand_count(strategy, 6), workload);
      const double exact = pass_cost(traffic, network).seconds;
      const double coarse =
          pass_cost(traffic, network,
                    {.least_budget = 2000, .visits_per_hop = 0})
              .seconds;
      EXPECT_NEAR(coarse, exact, 0.05 * exact) << name;
    }
  }
}

TEST(PassCost, BytesPerLinkClassAndBuffers) {
  const Traffic forward =
      traffic("multi_ring", 8, 560, schedule::Pass::forward, unit_workload());
  const Topology topology = mesh(8, 1);
  const LinkClassBytes bytes = link_class_bytes(forward, Network(topology));
  EXPECT_EQ(bytes.at("link"), (ClassBytes{8 * 7 * 70, 70}));
  for (Rank rank = 0; rank < 8; ++rank) {
    EXPECT_EQ(forward.retained_bytes[rank], 70);
    EXPECT_EQ(forward.slot_bytes[rank], 2 * 70);
  }
}

// What is predicted, what the schedule says, and what a program allocates; and
// messages are counted as the program posts them.
TEST(Traffic, BuffersAndMessagesAreThoseOfThePrograms) {
  for (const int n : {2, 3, 6, 8}) {
    for (const schedule::TestCase& test : schedule::test_cases(101, n)) {
      for (const schedule::Strategy& strategy : schedule::test_strategies(n)) {
        SCOPED_TRACE(test.name + ", " + name(strategy));
        const int strands = schedule::strand_count(strategy, n);
        Workload workload = unit_workload();
        workload.side_by_side = schedule::side_by_side(test.demand, strands);
        std::vector<schedule::Program> forward(n);
        for (const schedule::Pass pass :
             {schedule::Pass::forward, schedule::Pass::backward}) {
          const schedule::Schedule schedule =
              whole(strategy, test.demand, pass);
          const Traffic traffic =
              traffic_of(schedule, test.demand, strands, workload);
          std::vector<std::size_t> messages(n);
          for (const Flow& flow : traffic.flows) {
            messages[flow.from] += flow.messages;
          }
          for (Rank rank = 0; rank < n; ++rank) {
            const schedule::Program program = schedule::compile(
                rank_part(strategy, test.demand, pass, rank), rank, test.demand,
                strands,
                pass == schedule::Pass::backward ? &forward[rank] : nullptr);
            const auto bytes =
                static_cast<double>(program.buffer_bytes(workload.unit_bytes));
            ASSERT_EQ(traffic.slot_bytes[rank] + traffic.retained_bytes[rank],
                      bytes);
            ASSERT_EQ(
                schedule::buffer_bytes(schedule, rank, workload.unit_bytes),
                bytes);
            const auto sent = std::ranges::count_if(
                program.messages,
                [](const auto& message) { return message.outgoing; });
            ASSERT_EQ(messages[rank], sent);
            if (pass == schedule::Pass::forward) forward[rank] = program;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace ringweave::planner
