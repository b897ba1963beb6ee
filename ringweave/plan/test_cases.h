// Layouts and masks that tests of schedules run over.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ringweave/plan/demand.h"
#include "ringweave/plan/strategy.h"

namespace ringweave::plan {

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

/// All strategies that exist for `ranks`, direct with several strand counts.
inline std::vector<Strategy> test_strategies(int ranks) {
  std::vector<Strategy> strategies;
  for (const char* name :
       {"ring", "ring_reverse", "multi_ring", "time_varying_multi_ring",
        "direct", "direct:1", "direct:3", "all_gather"}) {
    const Strategy strategy = strategy_from_name(name);
    if (strategy.kind == StrategyKind::time_varying_multi_ring && ranks == 10) {
      continue;
    }
    strategies.push_back(strategy);
  }
  return strategies;
}

}  // namespace ringweave::plan
