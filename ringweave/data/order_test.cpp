#include "ringweave/data/order.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace ringweave::data {
namespace {

std::vector<std::int64_t> epoch(const Order& order, std::int64_t size,
                                std::int64_t number) {
  std::vector<std::int64_t> items;
  for (std::int64_t i = 0; i < size; ++i) {
    items.push_back(order.at(number * size + i));
  }
  return items;
}

TEST(Order, EachEpochHasEachItemOnce) {
  for (const std::int64_t size : {1, 2, 3, 4, 5, 7, 16, 17, 63, 64, 65, 1000}) {
    std::vector<std::int64_t> all(static_cast<std::size_t>(size));
    std::iota(all.begin(), all.end(), 0);
    for (std::int64_t number = 0; number < 3; ++number) {
      std::vector<std::int64_t> items = epoch(Order(7, size), size, number);
      std::ranges::sort(items);
      EXPECT_EQ(items, all) << size << " items, epoch " << number;
    }
  }
}

TEST(Order, EpochsAndSeedsDiffer) {
  constexpr std::int64_t kSize = 100;
  std::set<std::vector<std::int64_t>> orders;
  for (std::int64_t seed = 0; seed < 5; ++seed) {
    for (std::int64_t number = 0; number < 5; ++number) {
      orders.insert(epoch(Order(seed, kSize), kSize, number));
    }
  }
  EXPECT_EQ(orders.size(), 25u);
}

// Each item comes to each place equally often, but for chance: chi-square of
// 4000 epochs, 63 degrees of freedom each, whose 0.9999 quantile is 115.
TEST(Order, ItemsSpreadOverPlaces) {
  constexpr std::int64_t kSize = 64;
  constexpr std::int64_t kEpochs = 4000;
  const Order order(1, kSize);
  for (const std::int64_t place : {0, 1, 31, 63}) {
    std::vector<double> counts(kSize);
    for (std::int64_t number = 0; number < kEpochs; ++number) {
      ++counts[static_cast<std::size_t>(order.at(number * kSize + place))];
    }
    double sum = 0;
    for (const double count : counts) {
      const double expected = static_cast<double>(kEpochs) / kSize;
      sum += (count - expected) * (count - expected) / expected;
    }
    EXPECT_LT(sum, 115) << place;
  }
}

TEST(Order, IsTheSameEverywhere) {
  // Runs that go on count on it.
  EXPECT_EQ(epoch(Order(3, 10), 10, 0),
            (std::vector<std::int64_t>{8, 3, 1, 5, 9, 2, 6, 0, 4, 7}));
  // Large sizes and places take no time either.
  const Order large(3, std::int64_t{1} << 40);
  EXPECT_LT(large.at(std::int64_t{1} << 60), std::int64_t{1} << 40);
}

}  // namespace
}  // namespace ringweave::data
