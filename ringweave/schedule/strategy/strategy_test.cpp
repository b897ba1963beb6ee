#include "ringweave/schedule/strategy/strategy.h"

#include <algorithm>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/schedule/proof/validate.h"
#include "ringweave/schedule/test_cases.h"

namespace ringweave::schedule {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// Whether the parts are a schedule's ranks' parts: every transfer is in exactly
// two of them, with the same fields, all else in one.
void expect_union(const Schedule& all, const std::vector<Schedule>& parts) {
  Schedule sum;
  for (const Schedule& part : parts) {
    ASSERT_EQ(part.ranks, all.ranks);
    ASSERT_EQ(part.steps, all.steps);
    ASSERT_EQ(part.pass, all.pass);
    const auto append = [](auto& to, const auto& from) {
      to.insert(to.end(), from.begin(), from.end());
    };
    append(sum.transfers, part.transfers);
    append(sum.tiles, part.tiles);
    append(sum.retained, part.retained);
    append(sum.blocks, part.blocks);
    for (const Transfer& transfer : part.transfers) {
      ASSERT_EQ(part_offset(part, transfer.block),
                part_offset(all, transfer.block));
    }
  }
  const auto in_order = [](const auto& a, const auto& b) {
    return before(a, b);
  };
  std::sort(sum.transfers.begin(), sum.transfers.end(), in_order);
  std::sort(sum.tiles.begin(), sum.tiles.end(), in_order);
  std::sort(sum.retained.begin(), sum.retained.end());
  std::sort(sum.blocks.begin(), sum.blocks.end(),
            [](const Block& a, const Block& b) { return a.id < b.id; });
  sum.blocks.erase(std::unique(sum.blocks.begin(), sum.blocks.end()),
                   sum.blocks.end());
  std::vector<Transfer> twice;
  for (const Transfer& transfer : all.transfers) {
    twice.insert(twice.end(), 2, transfer);
  }
  ASSERT_TRUE(sum.transfers == twice);
  ASSERT_TRUE(sum.tiles == all.tiles);
  ASSERT_TRUE(sum.retained == all.retained);
  ASSERT_TRUE(sum.blocks == all.blocks);
}

void check_pass(const Strategy& strategy, const AttentionDemand& demand,
                Pass pass) {
  const int ranks = demand.ranks();
  const Schedule all = whole(strategy, demand, pass);
  validate(all, demand, strand_count(strategy, ranks));
  std::vector<Schedule> parts;
  for (Rank rank = 0; rank < ranks; ++rank) {
    parts.push_back(rank_part(strategy, demand, pass, rank));
  }
  expect_union(all, parts);
}

void check_all(const Strategy& strategy, const AttentionDemand& demand) {
  check_pass(strategy, demand, Pass::forward);
  check_pass(strategy, demand, Pass::backward);
  const Schedule forward = whole(strategy, demand, Pass::forward);
  EXPECT_EQ(forward.retained, whole(strategy, demand, Pass::backward).retained);
  // Without backward nothing is kept, and nothing else differs.
  Schedule alone = whole(strategy, demand, Pass::forward, false);
  EXPECT_TRUE(alone.retained.empty());
  alone.retained = forward.retained;
  EXPECT_EQ(alone, forward);
}

class EveryStrategy : public ::testing::TestWithParam<int> {};

TEST_P(EveryStrategy, IsValidForEveryLayoutAndMask) {
  const int ranks = GetParam();
  for (const Strategy& strategy : test_strategies(ranks)) {
    for (const auto& [title, demand] : test_cases(29, ranks)) {
      SCOPED_TRACE(name(strategy) + ", " + title);
      ASSERT_NO_THROW(check_all(strategy, demand));
      if (HasFatalFailure()) return;
    }
  }
}

// Most parts are empty, or have a size of one token.
TEST_P(EveryStrategy, IsValidForFewTokens) {
  const int ranks = GetParam();
  for (const Strategy& strategy : test_strategies(ranks)) {
    const int strands = strand_count(strategy, ranks);
    for (const std::int64_t tokens : {0, 2}) {
      for (const auto& [title, demand] : test_cases(tokens, ranks)) {
        SCOPED_TRACE(name(strategy) + ", " + title);
        for (const Pass pass : {Pass::forward, Pass::backward}) {
          ASSERT_NO_THROW(
              validate(whole(strategy, demand, pass), demand, strands));
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, EveryStrategy, ::testing::Range(1, 9));

TEST(Strategy, IsValidForManyRanks) {
  const auto check = [](const char* name, int ranks, Pass pass) {
    const Layout layout = Layout::contiguous(ranks * ranks, ranks);
    const AttentionDemand demand(layout, layout, Mask::full());
    const Strategy strategy = strategy_from_name(name);
    EXPECT_NO_THROW(validate(whole(strategy, demand, pass), demand,
                             strand_count(strategy, ranks)))
        << name << " on " << ranks;
  };
  for (const Pass pass : {Pass::forward, Pass::backward}) {
    for (const char* name : {"ring", "multi_ring", "direct", "all_gather"}) {
      check(name, 16, pass);
      check(name, 33, pass);
    }
    check("ring", 64, pass);
    check("all_gather", 64, pass);
  }
  check("multi_ring", 64, Pass::forward);
}

// So few ranks need a part that their places on its walk are looked up.
TEST(Strategy, IsValidForNarrowMasksOnManyRanks) {
  constexpr int kRanks = 37;
  const Layout layout = Layout::contiguous(3 * kRanks, kRanks);
  for (const Mask& mask :
       {Mask::full().with_window({2, 4}), Mask::causal(),
        Mask::causal().with_window({0, {}}),
        Mask::full().with_documents({0, 50, 52, 3 * kRanks})}) {
    const AttentionDemand demand(layout, layout, mask);
    for (const char* name :
         {"ring", "multi_ring", "time_varying_multi_ring", "direct:3"}) {
      SCOPED_TRACE(name);
      ASSERT_NO_THROW(check_all(strategy_from_name(name), demand));
    }
  }
}

TEST(Strategy, ExistsOrSaysWhyNot) {
  const auto strands = [](const char* name, int ranks) {
    return strand_count(strategy_from_name(name), ranks);
  };
  EXPECT_EQ(strands("ring", 8), 1);
  EXPECT_EQ(strands("all_gather", 8), 1);
  for (const char* name : {"multi_ring", "direct", "time_varying_multi_ring"}) {
    EXPECT_EQ(strands(name, 1), 1) << name;
    EXPECT_EQ(strands(name, 2), 1) << name;
    EXPECT_EQ(strands(name, 6), 5) << name;
    EXPECT_EQ(strands(name, 8), 7) << name;
  }
  EXPECT_EQ(strands("multi_ring", 10), 9);
  EXPECT_EQ(strands("direct:3", 8), 3);
  EXPECT_THROW(strands("direct:2147483647", 8), InvalidArgument);
  EXPECT_THAT([&] { strands("time_varying_multi_ring", 10); },
              ThrowsMessage<NoSolution>(HasSubstr("got 10 ranks")));
  EXPECT_THROW(strands("ring", 0), InvalidArgument);
  EXPECT_THROW(strand_count({StrategyKind::direct, false, -2}, 4),
               InvalidArgument);
  const Layout layout = Layout::contiguous(10, 2);
  const AttentionDemand demand(layout, layout, Mask::full());
  for (const Rank rank : {-1, 2}) {
    EXPECT_THROW(rank_part({}, demand, Pass::forward, rank), InvalidArgument);
    EXPECT_THROW(rank_part_of_summaries({}, demand, rank), InvalidArgument);
  }
}

TEST(Strategy, HasNames) {
  for (const std::string& known : strategy_names()) {
    EXPECT_EQ(name(strategy_from_name(known)), known);
  }
  EXPECT_EQ(strategy_from_name("direct:12"),
            (Strategy{StrategyKind::direct, false, 12}));
  EXPECT_EQ(name(Strategy{StrategyKind::direct, false, 12}), "direct:12");
  EXPECT_THROW(name(Strategy{StrategyKind::multi_ring, true}), InvalidArgument);
}

TEST(Strategy, NamesCarryParameters) {
  EXPECT_EQ(strategy_from_name("paths:nodes=4"),
            (Strategy{.kind = StrategyKind::paths, .nodes = 4}));
  const Strategy sliced{.kind = StrategyKind::hierarchical,
                        .nodes = 2,
                        .slices = 3,
                        .inner = StrategyKind::multi_ring};
  EXPECT_EQ(
      strategy_from_name("hierarchical:nodes=2,slices=3,inner=multi_ring"),
      sliced);
  EXPECT_EQ(
      strategy_from_name("hierarchical:inner=multi_ring,nodes=2,slices=3"),
      sliced);
  EXPECT_EQ(name(sliced), "hierarchical:nodes=2,slices=3,inner=multi_ring");
  EXPECT_EQ(split_strategy_names(
                "ring,hierarchical:nodes=2,slices=3,inner=ring,paths:nodes=2,"
                "all_gather:hierarchical:nodes=2,slices=3"),
            (std::vector<std::string>{
                "ring", "hierarchical:nodes=2,slices=3,inner=ring",
                "paths:nodes=2", "all_gather:hierarchical:nodes=2,slices=3"}));
  EXPECT_EQ(split_strategy_names("slices=3"),
            std::vector<std::string>{"slices=3"});
}

TEST(Strategy, BadParametersAreNamed) {
  for (const auto& [bad, text] :
       {std::pair{"paths", "want the number of nodes, such as paths:nodes=2"},
        std::pair{"paths:", "want the number of nodes"},
        std::pair{"paths:u=2", "want nodes=u after paths:"},
        std::pair{"paths:nodes=0", "want nodes=u with u >= 1"},
        std::pair{"paths:nodes=2,slices=3", "want nodes=u after paths:"},
        std::pair{"double_ring:nodes=2,nodes=3", "want nodes once"},
        std::pair{"hierarchical:slices=2", "such as hierarchical:nodes=2"},
        std::pair{"hierarchical:nodes=2,slices=", "slices=k with k >= 1"},
        std::pair{"hierarchical:nodes=2,depth=1",
                  "want nodes=u, slices=k and inner=strategy"},
        std::pair{"hierarchical:nodes=2,inner=paths", "got inner=paths"},
        std::pair{"multi_ring:3", "want multi_ring without parameters"},
        std::pair{"path:nodes=2", "did you mean \"paths\"?"},
        std::pair{"rings", "needs more than a name"},
        std::pair{"synthesised", "needs more than a name"}}) {
    EXPECT_THAT([bad = bad] { strategy_from_name(bad); },
                ThrowsMessage<InvalidArgument>(HasSubstr(text)))
        << bad;
  }
}

TEST(Strategy, JsonCarriesRingsAndTrees) {
  for (const int ranks : {1, 4, 6}) {
    for (const Strategy& strategy : test_strategies(ranks)) {
      const Json json = to_json(strategy);
      EXPECT_EQ(strategy_from_json(parse_json(json.dump(), "text"), "strategy"),
                strategy)
          << json.dump();
      if (!json.contains("trees")) continue;
      const Json older = {{"name", json["name"]}, {"routes", json["trees"]}};
      EXPECT_EQ(strategy_from_json(older, "strategy"), strategy);
    }
  }
  const auto error = [](const char* text, const char* want) {
    EXPECT_THAT([&] { strategy_from_json(parse_json(text, "text"), "plan"); },
                ThrowsMessage<InvalidArgument>(HasSubstr(want)))
        << text;
  };
  error(R"({"name": "rings"})", "rings");
  error(R"({"name": "rings", "rings": []})", "want a list of rings");
  error(R"({"name": "rings", "rings": [["a"]]})", "want a list of ranks");
  error(R"({"name": "rings", "rings": [[0, 0]]})", "0");
  error(R"({"name": "ring", "rings": [[0, 1]]})", "rings");
  error(R"({"name": "synthesised", "trees": {}})", "ranks");
}

TEST(Strategy, SaysWhyNot) {
  const auto why = [](const char* name, int ranks) {
    return why_not(strategy_from_name(name), ranks).value_or("it can");
  };
  EXPECT_EQ(why("paths:nodes=2", 8), "it can");
  EXPECT_EQ(why("hierarchical:nodes=1", 1), "it can");
  EXPECT_THAT(why("paths:nodes=2", 6), HasSubstr("2 nodes of 3 ranks"));
  EXPECT_THAT(why("paths:nodes=1", 4), HasSubstr("at least 2 nodes"));
  for (const char* name :
       {"paths:nodes=2", "double_ring:nodes=2", "hierarchical:nodes=2"}) {
    EXPECT_THAT(why(name, 7), HasSubstr("multiple of the 2 nodes")) << name;
  }
  EXPECT_THAT(why("hierarchical:nodes=2,inner=time_varying_multi_ring", 20),
              HasSubstr("got 10 ranks"));
  const auto rings = test_strategies(4);
  for (const Strategy& strategy : rings) {
    if (strategy.kind == StrategyKind::rings) {
      EXPECT_THAT(*why_not(strategy, 8), HasSubstr("rings of 4 ranks"));
    }
    if (strategy.kind == StrategyKind::synthesised) {
      EXPECT_THAT(*why_not(strategy, 8), HasSubstr("trees of 4 ranks"));
    }
  }
  EXPECT_TRUE(why_not({.kind = StrategyKind::rings}, 2));
  EXPECT_TRUE(why_not({.kind = StrategyKind::synthesised}, 2));
  EXPECT_TRUE(why_not({.kind = StrategyKind::hierarchical}, 2));
}

TEST(Strategy, EmitsWhatItsSchedulesHold) {
  struct Counter final : ScheduleSink {
    void add(const Transfer&) override { ++transfers; }
    void add(const Tile&) override { ++tiles; }
    void add(const Retained&) override { ++retained; }
    std::size_t transfers = 0, tiles = 0, retained = 0;
  };
  const Layout layout = Layout::zigzag(50, 4);
  const AttentionDemand demand(layout, layout, Mask::causal());
  for (const Strategy& strategy : test_strategies(4)) {
    for (const std::optional<Rank> rank : {std::optional<Rank>(), {2}}) {
      Counter counter;
      emit(strategy, demand, Pass::backward, rank, true, counter);
      const Schedule schedule =
          rank ? rank_part(strategy, demand, Pass::backward, *rank)
               : whole(strategy, demand, Pass::backward);
      EXPECT_EQ(counter.transfers, schedule.transfers.size());
      EXPECT_EQ(counter.tiles, schedule.tiles.size());
      EXPECT_EQ(counter.retained, schedule.retained.size());
      EXPECT_EQ(schedule.steps, step_count(strategy, 4, Pass::backward));
    }
  }
}

TEST(Strategy, UnknownNameMeetsTheNearest) {
  EXPECT_THAT([] { strategy_from_name("multiring"); },
              ThrowsMessage<InvalidArgument>(
                  AllOf(HasSubstr("[strategy] got \"multiring\""),
                        HasSubstr("did you mean \"multi_ring\"?"),
                        HasSubstr("time_varying_multi_ring"))));
  for (const char* bad : {"", "Ring", "direct:", "direct:0", "direct:-1",
                          "direct:2x", "direct:99999999999"}) {
    EXPECT_THROW(strategy_from_name(bad), InvalidArgument) << bad;
  }
}

}  // namespace
}  // namespace ringweave::schedule
