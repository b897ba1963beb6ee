#include "ringweave/planner/planner.h"

#include <algorithm>
#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/planner/demand_bytes.h"
#include "ringweave/planner/plan_file.h"
#include "ringweave/planner/search/searched.h"
#include "ringweave/schedule/test_cases.h"

namespace ringweave::planner {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

PlanRequest request_for(const std::string& topology, std::int64_t tokens) {
  PlanRequest request{.machine = load_machine(topology),
                      .shape = {.layers = 8,
                                .pattern = "LLLN",
                                .heads = 64,
                                .kv_heads = 8,
                                .head_dim = 128,
                                .state = {64, 128, 128}},
                      .mask = schedule::Mask::causal(),
                      .device_table = load_device_table("h100")};
  request.layout = schedule::Layout::zigzag(tokens, request.machine.ranks());
  return request;
}

const Candidate& candidate(const LayerPlan& plan, const std::string& name) {
  const auto found = std::ranges::find(plan.candidates, name, &Candidate::name);
  if (found == plan.candidates.end()) {
    throw InvalidArgument("no candidate " + name);
  }
  return *found;
}

TEST(Planner, TakesTheFastestThatFitsAndSaysWhy) {
  PlanRequest request = request_for("mesh:ranks=8,rate=5e9", 65536);
  const Planned free = make_plan(request);
  const LayerPlan& softmax = free.softmax;
  EXPECT_EQ(softmax.layers, 2);
  for (const Candidate& other : softmax.candidates) {
    if (other.verdict != Verdict::slower) continue;
    EXPECT_GE(other.seconds(),
              softmax.candidates[softmax.chosen].seconds() * (1 - 1e-9));
    EXPECT_THAT(other.reason, HasSubstr("times the chosen one"));
  }
  EXPECT_EQ(candidate(softmax, "ulysses").verdict, Verdict::not_executable);
  EXPECT_THAT(candidate(softmax, "paths").reason, HasSubstr("1 node"));

  // Just too little for the chosen one.
  request.memory_limit_bytes =
      softmax.candidates[softmax.chosen].memory_bytes * 0.999;
  const Planned limited = make_plan(request);
  const Candidate& was =
      candidate(limited.softmax, softmax.candidates[softmax.chosen].name);
  EXPECT_EQ(was.verdict, Verdict::too_large);
  EXPECT_THAT(was.reason, HasSubstr("limit"));
  EXPECT_LE(limited.softmax.candidates[limited.softmax.chosen].memory_bytes,
            *request.memory_limit_bytes);
  request.memory_limit_bytes = 1;
  EXPECT_THAT([&] { make_plan(request); },
              ThrowsMessage<NoSolution>(HasSubstr("memory limit")));
}

TEST(Planner, OfEquallyFastOnesTakesTheOneThatUsesLinksLeast) {
  // Compute hides all transfers but those of the slowest strategies.
  PlanRequest request = request_for("dgx-h100:nodes=2", 1 << 19);
  request.shape.pattern = "N";
  const LayerPlan plan = make_plan(request).softmax;
  const Candidate& chosen = plan.candidates[plan.chosen];
  EXPECT_THAT(chosen.reason, HasSubstr("compute hides"));
  int equal = 0;
  for (const Candidate& c : plan.candidates) {
    if (c.verdict == Verdict::slower) {
      EXPECT_GT(c.seconds() * kEqual, chosen.seconds()) << c.name;
    }
    if (c.verdict != Verdict::equal) continue;
    ++equal;
    EXPECT_LE(c.seconds(), chosen.seconds() * kEqual) << c.name;
    EXPECT_GE(c.link_seconds(), chosen.link_seconds() * (1 - 1e-9)) << c.name;
  }
  EXPECT_GT(equal, 5);
  EXPECT_GT(candidate(plan, "ring").link_seconds(), 4 * chosen.link_seconds());
}

TEST(Planner, NothingBeatsTheBound) {
  for (const char* topology :
       {"mesh:ranks=5,rate=1e9", "switch:ranks=6,rate=1e9",
        "ring:ranks=4,rate=1e9", "torus:dimensions=3x3,rate=1e9",
        "two_level:nodes=2,ranks=8,rate=1e9,nic=2.5e8", "dgx-1"}) {
    for (const char* layout : {"zigzag", "contiguous", "striped"}) {
      PlanRequest request = request_for(topology, 3001);
      request.shape.pattern = "N";
      request.layout =
          schedule::Layout::named(layout, 3001, request.machine.ranks());
      const LayerPlan plan = make_plan(request).softmax;
      EXPECT_GT(plan.bound(), 0);
      for (const Candidate& c : plan.candidates) {
        // Other splits than the layout's are not bound by its shards.
        if (!c.strategy || c.verdict == Verdict::impossible) continue;
        EXPECT_GE(c.forward.seconds, plan.forward_bound * (1 - 1e-9))
            << topology << " " << layout << " " << c.name;
        EXPECT_GE(c.backward.seconds, plan.backward_bound * (1 - 1e-9))
            << topology << " " << layout << " " << c.name;
      }
    }
  }
}

TEST(Planner, ManyRingsWinOnAMeshAndNotOnASwitch) {
  PlanRequest request = request_for("mesh:ranks=8,rate=1e9", 16384);
  const LayerPlan mesh = make_plan(request).softmax;
  EXPECT_GT(candidate(mesh, "ring").forward.seconds,
            4 * candidate(mesh, "multi_ring").forward.seconds);
  request.machine = load_machine("switch:ranks=8,rate=7e9");
  const LayerPlan one_port = make_plan(request).softmax;
  EXPECT_NEAR(candidate(one_port, "ring").forward.seconds,
              candidate(one_port, "multi_ring").forward.seconds,
              0.1 * candidate(one_port, "ring").forward.seconds);
}

TEST(Planner, ThousandRanksByFormula) {
  PlanRequest request =
      request_for("two_level:nodes=128,ranks=1024,rate=4e11,nic=5e10", 1 << 23);
  EXPECT_EQ(request.machine.topology, nullptr);
  const Planned planned = make_plan(request);
  for (const Candidate& c : planned.softmax.candidates) {
    EXPECT_TRUE(c.by_formula || c.verdict == Verdict::impossible) << c.name;
  }
  EXPECT_NE(candidate(planned.softmax, "paths:nodes=128").verdict,
            Verdict::impossible);
  request.layout = schedule::Layout::contiguous(1 << 23, 1024);
  EXPECT_THAT([&] { make_plan(request); },
              ThrowsMessage<InvalidArgument>(HasSubstr("zigzag")));
}

TEST(Planner, UnevenShardsAreNotBalanced) {
  // A formula would take all ranks for the middle one, which has nothing.
  PlanRequest request = request_for("mesh:ranks=64,rate=1e9", 6400);
  request.shape.pattern = "N";
  request.mask = schedule::Mask::full();
  std::vector<std::int64_t> lengths(64, 100);
  lengths[32] = 0;
  lengths[0] = 200;
  request.layout = schedule::Layout::contiguous(lengths);
  const LayerPlan uneven = make_plan(request).softmax;
  for (const Candidate& c : uneven.candidates) {
    if (!c.strategy) continue;
    EXPECT_FALSE(c.by_formula) << c.name;
  }
  request.machine = load_machine("mesh:ranks=129,rate=1e9");
  lengths.resize(129, 100);
  request.layout = schedule::Layout::contiguous(lengths);
  EXPECT_THAT([&] { make_plan(request); },
              ThrowsMessage<InvalidArgument>(HasSubstr("unequal work")));
}

// A listed machine of 128 ranks and unequal work: neither minutes nor silence.
TEST(Planner, LeavesOutWhatHasTooManyTransfers) {
  PlanRequest request = request_for("switch:ranks=128,rate=5e10", 128 * 64);
  request.shape.pattern = "N";
  request.layout = schedule::Layout::contiguous(128 * 64, 128);
  const LayerPlan plan = make_plan(request).softmax;
  const Candidate& many = candidate(plan, "multi_ring");
  EXPECT_EQ(many.verdict, Verdict::impossible);
  EXPECT_THAT(many.reason, HasSubstr("too many to predict one by one"));
  for (const char* few : {"ring", "direct:8", "all_gather"}) {
    EXPECT_NE(candidate(plan, few).verdict, Verdict::impossible) << few;
    EXPECT_FALSE(candidate(plan, few).by_formula) << few;
  }
  // All of 64 ranks' are priced.
  request = request_for("dgx-h100:nodes=8", 64 * 64);
  request.shape.pattern = "N";
  request.layout = schedule::Layout::contiguous(64 * 64, 64);
  for (const Candidate& c : make_plan(request).softmax.candidates) {
    if (!c.strategy) continue;
    EXPECT_NE(c.verdict, Verdict::impossible) << c.name << " " << c.reason;
  }
}

// One method has priced all that is near the fastest: event by event, but where
// there are too many large schedules. With much to compute all strategies are
// near.
TEST(Planner, ComparesLikeWithLike) {
  for (const auto& [topology, tokens, by_formula] :
       {std::tuple{"dgx-h100:nodes=2", 16384, false},
        {"dgx-h100:nodes=8", 1 << 16, false},
        {"dgx-h100:nodes=8", 1 << 18, true},
        {"mesh:ranks=64,rate=5e10", 1 << 16, true},
        {"dgx-h100:nodes=16", 1 << 16, true}}) {
    PlanRequest request = request_for(topology, tokens);
    request.shape.pattern = "N";
    const LayerPlan plan = make_plan(request).softmax;
    const double fastest = plan.candidates[plan.chosen].seconds();
    for (const Candidate& c : plan.candidates) {
      if (!c.strategy || c.seconds() > 1.1 * fastest) continue;
      if (c.verdict == Verdict::impossible) continue;
      EXPECT_EQ(c.by_formula, by_formula) << topology << " " << c.name;
    }
  }
}

TEST(Planner, OneRankHasNothingToSend) {
  PlanRequest request = request_for("mesh:ranks=1", 1000);
  const Planned planned = make_plan(request);
  EXPECT_DOUBLE_EQ(planned.softmax.candidates[planned.softmax.chosen].seconds(),
                   planned.softmax.bound());
}

TEST(Planner, SearchedSchedulesJoinTheOthers) {
  PlanRequest request = request_for("dgx-1", 4096);
  ASSERT_TRUE(worth_searching(request.machine));
  request.searched = searched_strategies(request.machine);
  const LayerPlan plan = make_plan(request).softmax;
  EXPECT_NE(candidate(plan, "synthesised").verdict, Verdict::impossible);
  EXPECT_NE(candidate(plan, "rings").verdict, Verdict::impossible);
}

TEST(Planner, SaysWhyASearchFoundNothing) {
  // Links that join the ranks to a star have no ring through all of them.
  topology::Topology::Spec spec{
      .name = "star", .source = "", .vertices = {}, .links = {}};
  for (const char* name : {"hub", "a", "b"}) {
    spec.vertices.push_back({topology::VertexKind::rank, name, 0});
  }
  for (const int leaf : {1, 2}) {
    spec.links.push_back({0, leaf, 1e9, 0, "link"});
    spec.links.push_back({leaf, 0, 1e9, 0, "link"});
  }
  spec.ranks_forward = true;
  PlanRequest request = request_for("mesh:ranks=3", 4096);
  request.machine = {
      .name = "star",
      .hash = "",
      .topology = std::make_shared<const topology::Topology>(std::move(spec)),
      .fabric = {}};
  request.searched = searched_strategies(request.machine);
  const LayerPlan plan = make_plan(request).softmax;
  EXPECT_EQ(candidate(plan, "rings").verdict, Verdict::impossible);
  EXPECT_THAT(candidate(plan, "rings").reason,
              HasSubstr("found no ring through all ranks of star"));
  EXPECT_NE(candidate(plan, "synthesised").verdict, Verdict::impossible);
}

TEST(Planner, ConsidersEveryKindOfStrategy) {
  const LayerPlan plan =
      make_plan(request_for("dgx-h100:nodes=2", 65536)).softmax;
  for (const std::string& name : schedule::strategy_names()) {
    const schedule::StrategyKind kind = schedule::strategy_from_name(name).kind;
    EXPECT_TRUE(std::ranges::any_of(plan.candidates, [&](const Candidate& c) {
      return c.strategy && c.strategy->kind == kind;
    })) << name;
  }
}

TEST(Planner, RefusesWhatDoesNotFitTogether) {
  PlanRequest request = request_for("mesh:ranks=4", 1000);
  request.layout = schedule::Layout::striped(1000, 4);
  EXPECT_THAT([&] { make_plan(request); },
              ThrowsMessage<InvalidArgument>(HasSubstr("striped")));
  request.layout = schedule::Layout::zigzag(1000, 5);
  EXPECT_THAT([&] { make_plan(request); },
              ThrowsMessage<InvalidArgument>(HasSubstr("layout of 5 ranks")));
}

TEST(PlanFile, RoundTripAndWhatItFits) {
  PlanRequest request = request_for("dgx-1", 4096);
  request.searched = searched_strategies(request.machine);
  Planned planned = make_plan(request);
  PlanFile plan = plan_file(request, "zigzag", planned);
  // A strategy that no name brings back.
  plan.softmax->strategy = request.searched.back().strategy;
  plan.softmax->name = name(*plan.softmax->strategy);
  const Json json = to_json(plan);
  EXPECT_EQ(plan_file_from_json(json, "plan"), plan);
  Json old = json;
  old["linear"] = {{"transport", plan.linear->name}};
  EXPECT_EQ(plan_file_from_json(old, "plan"), plan);

  const auto check = [&](int ranks, ModelShape shape, std::int64_t seq_len) {
    check_fits(plan, "plan.json", ranks, shape, seq_len, "zigzag",
               schedule::Mask::causal());
  };
  EXPECT_NO_THROW(check(8, request.shape, 4096));
  EXPECT_THAT([&] { check(4, request.shape, 4096); },
              ThrowsMessage<InvalidArgument>(HasSubstr("ranks 8")));
  EXPECT_THAT([&] { check(8, request.shape, 4097); },
              ThrowsMessage<InvalidArgument>(HasSubstr("seq_len 4096")));
  ModelShape other = request.shape;
  other.kv_heads = 64;
  EXPECT_THAT([&] { check(8, other, 4096); },
              ThrowsMessage<InvalidArgument>(HasSubstr("kv_heads 8")));
  other = request.shape;
  ++other.state.value_dim;
  EXPECT_THAT([&] { check(8, other, 4096); },
              ThrowsMessage<InvalidArgument>(
                  HasSubstr("states of 64 heads x 128 x 128 numbers")));
  other = request.shape;
  other.linear = "gla";
  EXPECT_THAT([&] { check(8, other, 4096); },
              ThrowsMessage<InvalidArgument>(
                  HasSubstr("linear layers of kind lightning")));
  EXPECT_NO_THROW(check_fits(plan, "plan.json", request.machine));
  EXPECT_THAT(
      [&] { check_fits(plan, "plan.json", load_machine("mesh:ranks=8")); },
      ThrowsMessage<InvalidArgument>(HasSubstr("topology")));

  const auto fails = [&](const char* pointer, const Json& value,
                         const char* word) {
    Json bad = json;
    bad[Json::json_pointer(pointer)] = value;
    EXPECT_THAT([&] { plan_file_from_json(bad, "plan"); },
                ThrowsMessage<InvalidArgument>(HasSubstr(word)));
  };
  fails("/version", 2, "version");
  fails("/topology/ranks", 0, "ranks");
  fails("/topology/ranks", 5, "softmax");
  fails("/softmax", {{"name", "rink"}}, "ring");
  fails("/seq_len", -1, "seq_len");
  fails("/colour", "red", "colour");
  fails("/predicted/softmax/forward_seconds", "fast", "forward_seconds");
}

TEST(DemandBytes, OnlyWhatIsNeeded) {
  const schedule::Layout layout = schedule::Layout::contiguous(30, 3);
  const schedule::AttentionDemand causal(layout, layout,
                                         schedule::Mask::causal());
  const topology::DemandBytes bytes = demand_bytes(causal, 4);
  EXPECT_EQ(bytes[2], (std::vector<double>{40, 40, 0}));
  EXPECT_EQ(bytes[0], (std::vector<double>{0, 0, 0}));
}

TEST(DemandBytes, ExactToTheToken) {
  for (const schedule::TestCase& test : schedule::test_cases(60, 4)) {
    const schedule::AttentionDemand& demand = test.demand;
    const topology::DemandBytes bytes = demand_bytes(demand, 1);
    for (Rank to = 0; to < 4; ++to) {
      for (Rank from = 0; from < 4; ++from) {
        double needed = 0;
        for (const std::int64_t key : demand.kv_layout().positions(from)) {
          if (from == to) break;
          const auto sees = [&](std::int64_t query) {
            return demand.mask().sees(query, key);
          };
          if (std::ranges::any_of(demand.q_layout().positions(to), sees)) {
            ++needed;
          }
        }
        ASSERT_DOUBLE_EQ(bytes[to][from], needed) << test.name;
      }
    }
  }
}

TEST(DemandBytes, BackwardIsForwardOnTheReversedGraph) {
  topology::Topology::Spec spec{
      .name = "one fast way", .source = "", .vertices = {}, .links = {}};
  spec.vertices = {{topology::VertexKind::rank, "a", 0},
                   {topology::VertexKind::rank, "b", 0}};
  spec.links = {{0, 1, 10, 0, "link"}, {1, 0, 1, 0, "link"}};
  const topology::Topology topology(std::move(spec));
  // Only b needs a's keys; their gradient comes back over the slow link.
  const schedule::Layout layout = schedule::Layout::contiguous(20, 2);
  const schedule::AttentionDemand demand(layout, layout,
                                         schedule::Mask::causal());
  const topology::DemandBytes bytes = demand_bytes(demand, 1);
  EXPECT_DOUBLE_EQ(topology::lower_bound(topology, bytes).seconds, 1);
  EXPECT_DOUBLE_EQ(
      topology::lower_bound(reversed_topology(topology), bytes).seconds, 10);
}

}  // namespace
}  // namespace ringweave::planner
