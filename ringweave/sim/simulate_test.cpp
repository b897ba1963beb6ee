#include "ringweave/sim/simulate.h"

#include <chrono>
#include <cmath>
#include <random>
#include <thread>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "ringweave/base/error.h"
#include "ringweave/schedule/strategy/strategy.h"
#include "ringweave/sim/reference.h"
#include "ringweave/topology/builtin.h"

namespace ringweave::sim {
namespace {

using schedule::Pass;
using schedule::Payload;
using topology::builtin;
using topology::Topology;

// 10 bytes a unit over 1000 bytes per second: 100 units take a second.
const planner::Workload kPlain{
    .unit_bytes = {{Payload::kv, 10}, {Payload::kv_grad, 20}}};

schedule::AttentionDemand full(int ranks, std::int64_t shard) {
  const auto layout = schedule::Layout::contiguous(shard * ranks, ranks);
  return schedule::AttentionDemand(layout, layout, schedule::Mask::full());
}

schedule::Schedule schedule_of(const std::string& strategy, int ranks,
                               std::int64_t shard, Pass pass = Pass::forward) {
  return schedule::whole(schedule::strategy_from_name(strategy),
                         full(ranks, shard), pass);
}

double seconds_of(const std::string& strategy, const std::string& topology,
                  std::int64_t shard, Pass pass = Pass::forward) {
  const Topology machine = builtin(topology);
  return simulate(schedule_of(strategy, machine.ranks(), shard, pass), machine,
                  kPlain)
      .seconds;
}

/// Messages of rank 0's strands, one from each pair of ranks, all at once.
schedule::Schedule messages(
    int ranks, const std::vector<std::array<int, 3>>& from_to_units) {
  schedule::Schedule schedule;
  schedule.ranks = ranks;
  schedule.steps = 1;
  int strand = 0;
  for (const auto& [from, to, units] : from_to_units) {
    const schedule::BlockId block{from, strand++, 0};
    schedule.blocks.push_back({block, units});
    schedule.transfers.push_back(
        {.from = from, .to = to, .block = block, .wait_step = 1});
  }
  std::ranges::sort(schedule.blocks, {}, &schedule::Block::id);
  std::ranges::sort(schedule.transfers,
                    [](auto& a, auto& b) { return schedule::before(a, b); });
  return schedule;
}

Topology pair(double latency, int shared) {
  Topology::Spec spec;
  spec.name = "pair";
  spec.vertices = {{topology::VertexKind::rank, "a", 0},
                   {topology::VertexKind::rank, "b", 0}};
  spec.links = {{0, 1, 1000, latency, "cable", shared},
                {1, 0, 1000, latency, "cable", shared}};
  return Topology(std::move(spec));
}

TEST(Simulate, OneMessage) {
  const Timeline timeline =
      simulate(messages(2, {{0, 1, 100}}), pair(0.25, -1), kPlain);
  EXPECT_NEAR(timeline.seconds, 1.25, 1e-9);
  ASSERT_EQ(timeline.messages.size(), 1);
  EXPECT_EQ(timeline.messages[0].bytes, 1000);
  EXPECT_EQ(timeline.messages[0].post_seconds, 0);
  EXPECT_EQ(timeline.messages[0].start_seconds, 0);
  EXPECT_NEAR(timeline.messages[0].end_seconds, 1.25, 1e-9);
  ASSERT_EQ(timeline.links.size(), 2);
  EXPECT_EQ(timeline.links[0].bytes, 1000);
  EXPECT_NEAR(timeline.links[0].busy_seconds, 1.25, 1e-9);
  EXPECT_NEAR(timeline.links[0].utilisation, 0.8, 1e-9);
  EXPECT_EQ(timeline.links[1].bytes, 0);
  // Both wait for it all the time.
  EXPECT_NEAR(timeline.exposed_seconds(), 1.25, 1e-9);
}

TEST(Simulate, HalfDuplexLinksShareOneCapacity) {
  const auto both = messages(2, {{0, 1, 100}, {1, 0, 100}});
  EXPECT_NEAR(simulate(both, pair(0, -1), kPlain).seconds, 1, 1e-9);
  EXPECT_NEAR(simulate(both, pair(0, 3), kPlain).seconds, 2, 1e-9);
}

TEST(Simulate, MessagesShareALinkAlikeWhateverTheirLatency) {
  // Two reach rank 2's port from rank 0 (no latency) and rank 1 (0.25 s).
  Topology::Spec spec;
  spec.name = "star";
  using topology::VertexKind;
  spec.vertices = {{VertexKind::rank, "a"},
                   {VertexKind::rank, "b"},
                   {VertexKind::rank, "c"},
                   {VertexKind::switch_, "s"}};
  spec.links = {{0, 3, 1000, 0, "port"},
                {1, 3, 1000, 0.25, "port"},
                {3, 2, 1000, 0, "port"}};
  const Timeline timeline = simulate(messages(3, {{0, 2, 100}, {1, 2, 100}}),
                                     Topology(std::move(spec)), kPlain);
  // A quarter of a second alone, then half the rate each: 0.25 + 750 / 500.
  EXPECT_NEAR(timeline.messages[0].end_seconds, 1.75, 1e-9);
  // The rest alone again: 250 bytes.
  EXPECT_NEAR(timeline.messages[1].end_seconds, 2, 1e-9);
}

TEST(Simulate, ClosedForms) {
  // C = 4200 bytes, B = P = 1000 bytes/s, W = 250.
  for (const int n : {2, 3, 4, 5, 6, 7, 8}) {
    SCOPED_TRACE(n);
    const std::string mesh = fmt::format("mesh:ranks={},rate=1000", n);
    const std::string port = fmt::format("switch:ranks={},rate=1000", n);
    EXPECT_NEAR(seconds_of("ring", mesh, 420), 4.2 * (n - 1), 1e-6);
    EXPECT_NEAR(seconds_of("multi_ring", mesh, 420), 4.2, 1e-6);
    EXPECT_NEAR(seconds_of("direct", mesh, 420), 4.2, 1e-6);
    EXPECT_NEAR(seconds_of("all_gather", mesh, 420), 4.2, 1e-6);
    EXPECT_NEAR(seconds_of("ring", port, 420), 4.2 * (n - 1), 1e-6);
    EXPECT_NEAR(seconds_of("multi_ring", port, 420), 4.2 * (n - 1), 1e-6);
    EXPECT_NEAR(seconds_of("direct", port, 420), 4.2 * (n - 1), 1e-6);
  }
  const std::string nodes =
      "two_level:nodes=2,ranks=8,inside=mesh,rate=1000,nic=250";
  // Each of the ring's 7 steps sends one shard over a NIC.
  EXPECT_NEAR(seconds_of("ring", nodes, 420), 7 * 4.2 * 4, 1e-6);
  // Four strands share the NICs; whole shards over the NIC, then spread.
  EXPECT_NEAR(seconds_of("paths:nodes=2", nodes, 420), 7 * 4.2, 1e-6);
  EXPECT_NEAR(
      seconds_of("hierarchical:nodes=2,slices=1,inner=direct", nodes, 420),
      4 * 4.2 + 4.2, 1e-6);
  // Of 7 peers, 4 are behind the NIC.
  EXPECT_NEAR(seconds_of("all_gather", nodes, 420), 4 * 4.2 * 4, 1e-6);
}

// Slices let rails and the links inside nodes work at the same time: never
// slower than whole shards, and near the busier of the two.
TEST(Simulate, SlicesDoNotSlowBackwardDown) {
  const int m = 3, shard = 840;
  const double c = 10 * shard, inside = 1000, rail = 500;
  for (const int u : {3, 4}) {
    const Topology nodes = builtin(fmt::format(
        "two_level:nodes={},ranks={},rate={},nic={}", u, u * m, inside, rail));
    const double bound =
        std::max((u - 2 + 2 * (u - 1)) * c / rail, u * 3 * c / inside);
    for (const char* inner : {"direct", "multi_ring"}) {
      for (const auto& mask :
           {schedule::Mask::full(), schedule::Mask::causal()}) {
        const auto layout = schedule::Layout::zigzag(shard * u * m, u * m);
        const schedule::AttentionDemand demand(layout, layout, mask);
        const auto seconds = [&](int slices) {
          const auto strategy = schedule::strategy_from_name(fmt::format(
              "hierarchical:nodes={},slices={},inner={}", u, slices, inner));
          return simulate(schedule::whole(strategy, demand, Pass::backward),
                          nodes, kPlain)
              .seconds;
        };
        const double unsliced = seconds(1);
        for (const int slices : {4, 8}) {
          SCOPED_TRACE(fmt::format("{} nodes, {} slices, {}, {}", u, slices,
                                   inner, mask.to_json().dump()));
          const double sliced = seconds(slices);
          EXPECT_LE(sliced, 1.02 * unsliced);
          EXPECT_LE(sliced, 1.08 * bound);
        }
      }
    }
  }
}

TEST(Simulate, BackwardOfTwoRanks) {
  // Keys and values go out (1 s), gradients of twice the size return (2 s).
  EXPECT_NEAR(
      seconds_of("direct:1", "mesh:ranks=2,rate=1000", 100, Pass::backward), 3,
      1e-9);
}

TEST(Simulate, ComputeOverlapsTransfers) {
  const Topology machine = builtin("mesh:ranks=5,rate=1000");
  const schedule::Schedule schedule = schedule_of("ring", 5, 100);
  planner::Workload workload = kPlain;
  for (const double tile : {0.25, 1.0, 3.0}) {
    SCOPED_TRACE(tile);
    workload.tile_work = [&](const schedule::Tile&) { return tile; };
    const Timeline timeline = simulate(schedule, machine, workload);
    EXPECT_NEAR(timeline.seconds, 4 * std::max(1.0, tile) + tile, 1e-9);
    EXPECT_NEAR(timeline.exposed_seconds(), 4 * std::max(0.0, 1 - tile), 1e-9);
    for (const RankTimes& rank : timeline.ranks) {
      EXPECT_NEAR(rank.compute_seconds, 5 * tile, 1e-9);
    }
  }
}

TEST(Simulate, OverheadTakesTheSendersTime) {
  planner::Workload workload = kPlain;
  workload.message_overhead_seconds = 0.5;
  const Timeline timeline =
      simulate(schedule_of("all_gather", 3, 100),
               builtin("mesh:ranks=3,rate=1000"), workload);
  // The second message leaves after 1 s.
  EXPECT_NEAR(timeline.seconds, 2, 1e-9);
  EXPECT_NEAR(timeline.ranks[0].overhead_seconds, 1, 1e-9);
  EXPECT_NEAR(timeline.ranks[0].waiting_seconds, 1, 1e-9);
}

TEST(Simulate, OneRankOnlyComputes) {
  planner::Workload workload = kPlain;
  workload.tile_work = [](const schedule::Tile&) { return 2.0; };
  const Timeline timeline =
      simulate(schedule_of("ring", 1, 100), builtin("mesh:ranks=1"), workload);
  EXPECT_NEAR(timeline.seconds, 2, 1e-9);
  EXPECT_TRUE(timeline.messages.empty());
}

TEST(Simulate, CountsTheBytesOfEveryLink) {
  const Topology machine = builtin("mesh:ranks=5,rate=1000");
  for (const Pass pass : {Pass::forward, Pass::backward}) {
    const schedule::Schedule schedule = schedule_of("multi_ring", 5, 400, pass);
    const Timeline timeline = simulate(schedule, machine, kPlain);
    auto traffic = schedule::link_traffic(schedule);
    for (const LinkUse& use : timeline.links) {
      const topology::Link& link = machine.links()[use.link];
      auto& units = traffic[{link.from, link.to}];
      EXPECT_EQ(use.bytes,
                units[Payload::kv] * 10 + units[Payload::kv_grad] * 20);
    }
    const auto classes = link_class_use(timeline.links, machine);
    ASSERT_EQ(classes.size(), 1);
    EXPECT_EQ(classes[0].links, 20);
    if (pass == Pass::forward) {
      EXPECT_NEAR(classes[0].utilisation, 1, 1e-9);
      EXPECT_NEAR(classes[0].busiest_utilisation, 1, 1e-9);
    }
  }
}

TEST(Simulate, SlowLink) {
  const Topology machine = builtin("mesh:ranks=5,rate=1000");
  const schedule::Schedule schedule = schedule_of("all_gather", 5, 100);
  const Timeline timeline =
      simulate(schedule, machine, kPlain,
               {.slow_links = {{.from = 1, .to = 3, .factor = 0.25}}});
  EXPECT_NEAR(timeline.seconds, 4, 1e-9);
  EXPECT_NEAR(timeline.ranks[0].end_seconds, 1, 1e-9);
}

TEST(Simulate, FailingLinkSaysWhoWaitsForWhom) {
  const Topology machine = builtin("mesh:ranks=4,rate=1000");
  const schedule::Schedule schedule = schedule_of("ring", 4, 100);
  const auto fail = [&](double seconds) {
    return simulate(schedule, machine, kPlain,
                    {.failing_links = {{0, 1, seconds}}});
  };
  const Timeline whole = fail(3.5);
  EXPECT_TRUE(whole.complete());
  EXPECT_NEAR(whole.seconds, 3, 1e-9);

  const Timeline timeline = fail(1.5);
  EXPECT_FALSE(timeline.complete());
  EXPECT_EQ(timeline.seconds, kNever);
  ASSERT_EQ(timeline.stuck.size(), 4);
  EXPECT_EQ(timeline.stuck[1].rank, 1);
  EXPECT_EQ(timeline.stuck[1].step, 2);
  EXPECT_EQ(timeline.stuck[1].peer, 0);
  EXPECT_EQ(timeline.stuck[1].text,
            "rank 1 waits in step 2 for kv block (owner 3, strand 0) from rank "
            "0: a link on its way failed");
  EXPECT_EQ(timeline.stuck[0].text,
            "rank 0 waits in step 2 for kv block (owner 3, strand 0) on its "
            "way to rank 1: a link on its way failed");
  // The others wait for what ranks 0 and 1 no longer send, or take.
  EXPECT_EQ(timeline.stuck[2].peer, 1);
  EXPECT_THAT(timeline.stuck[2].text, testing::EndsWith("never sent"));
  EXPECT_EQ(timeline.stuck[3].peer, 0);
  EXPECT_THAT(timeline.stuck[3].text, testing::EndsWith("never received"));
  // From the start: nothing arrives on the link.
  const Timeline dead = fail(0);
  EXPECT_EQ(dead.stuck.size(), 4);
  for (const LinkUse& use : dead.links) {
    const topology::Link& link = machine.links()[use.link];
    if (link.from == 0 && link.to == 1) {
      EXPECT_EQ(use.bytes, 0);
    }
  }
  // The next simulation knows nothing of it.
  EXPECT_NEAR(simulate(schedule, machine, kPlain).seconds, 3, 1e-9);
}

TEST(Simulate, JitterAndStragglers) {
  const Topology machine = builtin("mesh:ranks=5,rate=1000");
  const schedule::Schedule schedule = schedule_of("multi_ring", 5, 400);
  planner::Workload workload = kPlain;
  workload.tile_work = [](const schedule::Tile&) { return 1.0; };
  const auto ends = [&](double jitter, std::uint64_t seed) {
    std::vector<double> seconds;
    const Timeline timeline =
        simulate(schedule, machine, workload, {.jitter = jitter, .seed = seed});
    for (const TileTimes& tile : timeline.tiles) {
      seconds.push_back(tile.end_seconds - tile.start_seconds);
    }
    return seconds;
  };
  const auto near = [](double value, double distance) {
    return testing::Each(testing::DoubleNear(value, distance));
  };
  EXPECT_THAT(ends(0, 1), near(1, 1e-9));
  const std::vector<double> some = ends(0.25, 1);
  EXPECT_THAT(some, near(1, 0.25 + 1e-9));
  EXPECT_THAT(some, testing::Contains(testing::Gt(1.15)));
  EXPECT_THAT(some, testing::Contains(testing::Lt(0.85)));
  EXPECT_THAT(ends(0.25, 1),
              testing::Pointwise(testing::DoubleNear(1e-9), some));
  EXPECT_THAT(ends(0.25, 2), testing::Not(testing::Pointwise(
                                 testing::DoubleNear(1e-9), some)));

  const Timeline slow =
      simulate(schedule, machine, workload, {.stragglers = {{2, 3.0}}});
  EXPECT_NEAR(slow.ranks[2].compute_seconds, 3 * slow.ranks[1].compute_seconds,
              1e-9);
}

/// A random case: a small machine, a strategy, an uneven causal layout.
struct Random {
  explicit Random(int seed) : random(seed) {}

  int up_to(int end) {
    return static_cast<int>(random() % static_cast<unsigned>(end));
  }
  Topology machine() {
    const int n = 2 + up_to(5);
    const char* const forms[] = {
        "mesh:ranks={},rate=1000,latency={}",
        "switch:ranks={},rate=1000,latency={}",
        "ring:ranks={},rate=1000,latency={}",
        "two_level:ranks={},nodes=2,rate=1000,nic=300,latency={}"};
    const int form = up_to(4);
    const int ranks = form == 3 ? n / 2 * 2 : std::max(n, form == 2 ? 3 : 2);
    return builtin(fmt::format(fmt::runtime(forms[form]), ranks,
                               up_to(2) == 0 ? 0 : 0.125));
  }
  schedule::Schedule schedule(int ranks) {
    const auto layout = up_to(2) == 0 ? schedule::Layout::zigzag(97, ranks)
                                      : schedule::Layout::contiguous(89, ranks);
    const auto mask =
        up_to(2) == 0 ? schedule::Mask::full() : schedule::Mask::causal();
    const char* const names[] = {"ring",     "ring_reverse", "multi_ring",
                                 "direct:2", "direct",       "all_gather"};
    return schedule::whole(schedule::strategy_from_name(names[up_to(6)]),
                           schedule::AttentionDemand(layout, layout, mask),
                           up_to(2) == 0 ? Pass::forward : Pass::backward);
  }

  std::mt19937 random;
};

TEST(Simulate, EqualsAnEventDrivenCalculation) {
  for (int seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const Topology machine = random.machine();
    const schedule::Schedule schedule = random.schedule(machine.ranks());
    planner::Workload workload = kPlain;
    const double tile = 0.1 * random.up_to(4);
    workload.tile_work = [&](const schedule::Tile& t) {
      return tile * (1 + t.rank);
    };
    workload.message_overhead_seconds = 0.015625 * random.up_to(3);
    const Timeline timeline = simulate(schedule, machine, workload);
    SCOPED_TRACE(
        fmt::format("{} tile {} overhead {} lat {} transfers {} pass {}",
                    machine.name(), tile, workload.message_overhead_seconds,
                    machine.links()[0].latency_seconds,
                    schedule.transfers.size(), schedule::name(schedule.pass)));
    Reference reference(schedule, machine, workload);
    EXPECT_NEAR(timeline.seconds, reference.run(), 1e-6);
    for (std::size_t i = 0; i < timeline.messages.size(); ++i) {
      EXPECT_NEAR(timeline.messages[i].end_seconds, reference.end_of(i), 1e-6);
    }
  }
}

TEST(Simulate, ThreadsTakeTurns) {
  std::vector<std::thread> threads;
  std::array<double, 4> seconds{};
  for (std::size_t i = 0; i < seconds.size(); ++i) {
    threads.emplace_back([&seconds, i] {
      for (int repeat = 0; repeat < 5; ++repeat) {
        seconds[i] = seconds_of("ring", "mesh:ranks=4,rate=1000", 100);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(seconds, testing::Each(testing::DoubleNear(3, 1e-9)));
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kLarge = 16;
#else
constexpr int kLarge = 64;
#endif

/// Wherever the poll throws: while the platform is made, in an actor, when the
/// clock moves on.
TEST(Simulate, EndsWithWhatThePollThrows) {
  const Topology machine = builtin("mesh:ranks=4,rate=1000");
  const schedule::Schedule schedule = schedule_of("ring", 4, 100);
  const double seconds = simulate(schedule, machine, kPlain).seconds;
  int calls = 0;
  int last = -1;  // call that throws
  const SimulationOptions options = {.poll = [&] {
    if (calls++ == last) throw NoSolution("enough");
  }};
  EXPECT_EQ(simulate(schedule, machine, kPlain, options).seconds, seconds);
  const int all = calls;
  EXPECT_GT(all, 20);
  for (last = 0; last < all; ++last) {
    calls = 0;
    EXPECT_THROW(simulate(schedule, machine, kPlain, options), NoSolution)
        << "at call " << last;
  }
  EXPECT_EQ(simulate(schedule, machine, kPlain).seconds, seconds);
}

TEST(Simulate, ManyRanks) {
  const schedule::Schedule schedule =
      schedule_of("multi_ring", kLarge, 10 * (kLarge - 1));
  const Topology machine =
      builtin(fmt::format("mesh:ranks={},rate=1000,latency=0.001", kLarge));
  const auto begin = std::chrono::steady_clock::now();
  const Timeline timeline = simulate(schedule, machine, kPlain);
  const std::chrono::duration<double> took =
      std::chrono::steady_clock::now() - begin;
  fmt::print("simulated {} ranks in {:.2f} s\n", kLarge, took.count());
  EXPECT_NEAR(timeline.seconds, (kLarge - 1) * (0.1 + 0.001), 1e-6);
}

TEST(Simulate, SaysWhatCanNotBeUsed) {
  const Topology machine = builtin("mesh:ranks=4,rate=1000");
  const schedule::Schedule schedule = schedule_of("ring", 4, 100);
  const auto fault = [&](const SimulationOptions& options,
                         const planner::Workload& workload = kPlain) {
    try {
      simulate(schedule, machine, workload, options);
    } catch (const InvalidArgument& error) {
      return std::string(error.what());
    }
    return std::string("none");
  };
  using testing::HasSubstr;
  EXPECT_THAT(fault({.jitter = 1}), HasSubstr("jitter of 1;"));
  EXPECT_THAT(fault({.jitter = -0.1}), HasSubstr("jitter of -0.1;"));
  EXPECT_THAT(fault({.stragglers = {{4, 2}}}), HasSubstr("straggler 4;"));
  EXPECT_THAT(fault({.stragglers = {{3, 0}}}), HasSubstr("factor of 0 for"));
  EXPECT_THAT(fault({.slow_links = {{0, 1, 0}}}), HasSubstr("factor of 0 for"));
  EXPECT_THAT(fault({.slow_links = {{0, 0, 1}}}), HasSubstr("has none"));
  EXPECT_THAT(fault({.slow_links = {{0, 9, 1}}}), HasSubstr("vertices 0 … 3"));
  EXPECT_THAT(fault({.failing_links = {{0, 1, -1}}}), HasSubstr("at -1 s"));
  EXPECT_THAT(fault({}, {}), HasSubstr("no bytes of a unit of kv"));
  EXPECT_THAT(fault({}, {.unit_bytes = {{Payload::kv, 1}},
                         .message_overhead_seconds = -1}),
              HasSubstr("overhead of -1"));
  EXPECT_THAT(fault({}, {.unit_bytes = {{Payload::kv, 1}},
                         .tile_work = [](auto&) { return NAN; }}),
              HasSubstr("a work of nan for a tile"));
  EXPECT_THROW(simulate(schedule_of("ring", 5, 100), machine, kPlain),
               InvalidArgument);
  // A path of three ranks that pass nothing on.
  Topology::Spec spec;
  spec.name = "path";
  using topology::VertexKind;
  spec.vertices = {{VertexKind::rank, "a"},
                   {VertexKind::rank, "b"},
                   {VertexKind::rank, "c"}};
  spec.links = {{0, 1, 1000, 0, "l"}, {1, 2, 1000, 0, "l"}};
  EXPECT_THROW(
      simulate(messages(3, {{0, 2, 1}}), Topology(std::move(spec)), kPlain),
      InvalidArgument);
}

}  // namespace
}  // namespace ringweave::sim
