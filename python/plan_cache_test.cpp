#include "python/plan_cache.h"

#include <stdexcept>

#include <gtest/gtest.h>

namespace ringweave::python {
namespace {

using Cache = PlanCache<int>;

/// Whether the plan of a key had to be made.
bool makes(Cache& cache, const std::string& key, bool has_documents = false) {
  bool made = false;
  cache.get(key, [&]() -> Cache::Made {
    made = true;
    return {std::make_shared<const int>(0), has_documents};
  });
  return made;
}

TEST(PlanCache, MakesAPlanOnce) {
  Cache cache;
  EXPECT_TRUE(makes(cache, "a"));
  EXPECT_FALSE(makes(cache, "a"));
  EXPECT_TRUE(makes(cache, "b"));
}

TEST(PlanCache, DocumentsOfEachBatchDoNotPushOutOthers) {
  Cache cache;
  makes(cache, "causal");
  for (std::size_t batch = 0; batch < 3 * Cache::kKept; ++batch) {
    for (int layer = 0; layer < 2; ++layer) {
      EXPECT_EQ(makes(cache, std::to_string(batch), true), layer == 0);
    }
  }
  EXPECT_FALSE(makes(cache, "causal"));
  EXPECT_TRUE(makes(cache, "0", true));
}

TEST(PlanCache, WhatWasUsedLongestAgoGoesFirst) {
  Cache cache;
  for (std::size_t i = 0; i < Cache::kKept; ++i) {
    makes(cache, std::to_string(i));
  }
  EXPECT_FALSE(makes(cache, "0"));
  makes(cache, "one more");
  EXPECT_FALSE(makes(cache, "0"));
  EXPECT_TRUE(makes(cache, "1"));
}

TEST(PlanCache, KeepsNothingOfAFailure) {
  Cache cache;
  const auto fail = []() -> Cache::Made { throw std::runtime_error("no"); };
  EXPECT_THROW(cache.get("a", fail), std::runtime_error);
  EXPECT_TRUE(makes(cache, "a"));
}

}  // namespace
}  // namespace ringweave::python
