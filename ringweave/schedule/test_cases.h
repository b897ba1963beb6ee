// Layouts and masks that tests of schedules run over.
#pragma once

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/strategy/strategy.h"
#include "ringweave/schedule/strategy/walks.h"

namespace ringweave::schedule {

struct TestCase {
  std::string name;  ///< such as "zigzag, causal"
  AttentionDemand demand;
};

inline std::vector<std::pair<std::string, Layout>> test_layouts(
    std::int64_t tokens, int ranks) {
  // Lengths 1, 2, 3, …, the last rank has the rest; and every second rank
  // empty.
  std::vector<std::int64_t> uneven;
  std::vector<std::int64_t> gaps(ranks, 0);
  std::int64_t left = tokens;
  for (Rank rank = 0; rank < ranks; ++rank) {
    const std::int64_t length =
        rank + 1 == ranks ? left : std::min<std::int64_t>(rank + 1, left);
    uneven.push_back(length);
    left -= length;
  }
  for (std::int64_t token = 0; token < tokens; ++token) {
    const Rank rank = static_cast<Rank>(1 + 2 * token);
    ++gaps[ranks == 1 ? 0 : rank % (ranks / 2 * 2)];
  }
  return {{"contiguous", Layout::contiguous(tokens, ranks)},
          {"zigzag", Layout::zigzag(tokens, ranks)},
          {"striped", Layout::striped(tokens, ranks)},
          {"uneven", Layout::contiguous(uneven)},
          {"gaps", Layout::contiguous(gaps)}};
}

inline std::vector<std::pair<std::string, Mask>> test_masks(
    std::int64_t tokens) {
  std::vector<std::int64_t> offsets = {0};
  for (const std::int64_t cut : {tokens / 5, tokens / 2, tokens - 1}) {
    if (cut > offsets.back()) offsets.push_back(cut);
  }
  if (tokens > offsets.back()) offsets.push_back(tokens);
  const Window narrow{3, {}};
  if (tokens == 0) return {{"full", Mask::full()}, {"causal", Mask::causal()}};
  return {{"full", Mask::full()},
          {"causal", Mask::causal()},
          {"window", Mask::full().with_window({2, 4})},
          {"causal window", Mask::causal().with_window(narrow)},
          {"documents", Mask::full().with_documents(offsets)},
          {"causal documents", Mask::causal().with_documents(offsets)},
          {"causal window documents",
           Mask::causal().with_window(narrow).with_documents(offsets)}};
}

inline std::vector<TestCase> test_cases(std::int64_t tokens, int ranks) {
  std::vector<TestCase> cases;
  for (const auto& [mask_name, mask] : test_masks(tokens)) {
    for (const auto& [layout_name, layout] : test_layouts(tokens, ranks)) {
      cases.push_back({fmt::format("{}, {}", layout_name, mask_name),
                       AttentionDemand(layout, layout, mask)});
    }
    // Queries lie elsewhere than keys.
    cases.push_back({"striped queries, zigzag keys, " + mask_name,
                     AttentionDemand(Layout::striped(tokens, ranks),
                                     Layout::zigzag(tokens, ranks), mask)});
  }
  // Cross attention.
  cases.push_back(
      {"cross attention",
       AttentionDemand(Layout::contiguous(tokens / 3, ranks),
                       Layout::zigzag(tokens, ranks), Mask::full())});
  return cases;
}

/// Trees of random shapes, with hops at random steps.
inline Trees random_trees(int ranks, int strands, unsigned seed) {
  std::mt19937 random(seed);
  Trees trees{.ranks = ranks, .strands = strands, .steps = 0, .hops = {}};
  for (int number = 0; number < ranks * strands; ++number) {
    std::vector<Rank> reached = {number / strands};
    std::vector<int> since = {0};
    std::vector<Hop> hops;
    for (int i = 1; i < ranks; ++i) {
      const Rank to = (reached[0] + i * (ranks % 3 == 0 ? 1 : 3)) % ranks;
      const int parent = static_cast<int>(random() % reached.size());
      const int last = hops.empty() ? 0 : hops.back().step;
      const int step = std::max(last, since[parent]) + random() % 4 / 3;
      hops.push_back({reached[parent], to, step});
      reached.push_back(to);
      since.push_back(step + 1);
      trees.steps = std::max(trees.steps, step + 1);
    }
    trees.hops.push_back(std::move(hops));
  }
  check(trees);
  return trees;
}

/// All strategies that exist for `ranks`, with several parameters.
inline std::vector<Strategy> test_strategies(int ranks) {
  std::vector<std::string> names = strategy_names();
  for (const char* more :
       {"direct:1", "direct:3", "paths:nodes=3", "paths:nodes=4",
        "double_ring:nodes=3", "hierarchical:nodes=1,slices=2",
        "hierarchical:nodes=2,slices=3,inner=multi_ring",
        "hierarchical:nodes=2,slices=1,inner=time_varying_multi_ring",
        "hierarchical:nodes=3,slices=1", "hierarchical:nodes=4,slices=2",
        "hierarchical:nodes=4,slices=5,inner=ring",
        "hierarchical:nodes=5,slices=3"}) {
    names.emplace_back(more);
  }
  std::vector<Strategy> strategies;
  for (const std::string& name : names) {
    const Strategy strategy = strategy_from_name(name);
    if (!why_not(strategy, ranks)) strategies.push_back(strategy);
  }
  std::vector<topology::Ring> rings;
  for (const bool reverse : {false, true}) {
    rings.push_back(ring_walks(ranks, reverse).rings()[0]);
  }
  strategies.push_back(
      {.kind = StrategyKind::rings,
       .rings = std::make_shared<const std::vector<topology::Ring>>(rings)});
  strategies.push_back(
      {.kind = StrategyKind::synthesised,
       .trees = std::make_shared<const Trees>(random_trees(ranks, 2, ranks))});
  return strategies;
}

/// A ring of three written by hand: rank r sends its block to r + 1, which
/// passes it on. Blocks have two parts of 2 and 3 units. Not in the order that
/// a ScheduleBuilder gives.
inline Schedule ring_of_three() {
  Schedule schedule;
  schedule.ranks = 3;
  schedule.steps = 3;
  for (Rank owner = 0; owner < 3; ++owner) {
    for (int part = 0; part < 2; ++part) {
      const BlockId block{owner, 0, part};
      schedule.blocks.push_back({block, 2 + part});
      for (int t = 0; t < 3; ++t) {
        const Rank rank = (owner + t) % 3;
        schedule.tiles.push_back(
            {.rank = rank, .step = t, .block = block, .slot = t - 1});
        if (t == 2) continue;
        schedule.transfers.push_back({.from = rank,
                                      .to = (rank + 1) % 3,
                                      .block = block,
                                      .post_step = t,
                                      .wait_step = t + 1,
                                      .source_slot = t - 1,
                                      .slot = t});
      }
    }
  }
  return schedule;
}

/// How many of the areas show query `i` of a run the key `j` of another.
inline int showing(const std::vector<Area>& areas, std::int64_t i,
                   std::int64_t j) {
  return static_cast<int>(std::ranges::count_if(areas, [&](const Area& area) {
    if (i < area.rows.begin || i >= area.rows.end) return false;
    const Range seen = area.seen(i - area.rows.begin);
    return j >= seen.begin && j < seen.end;
  }));
}

}  // namespace ringweave::schedule
