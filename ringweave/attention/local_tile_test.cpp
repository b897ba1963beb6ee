#include "ringweave/attention/local_tile.h"

#include <map>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/schedule/mask/mask.h"

namespace ringweave::attention {
namespace {

using Kind = LocalTile::Kind;

/// How often each (row, key) pair is computed.
std::map<std::pair<std::int64_t, std::int64_t>, int> pairs(
    const std::vector<LocalTile>& tiles) {
  std::map<std::pair<std::int64_t, std::int64_t>, int> times;
  for (const LocalTile& tile : tiles) {
    if (tile.kind == Kind::causal) {
      EXPECT_EQ(tile.rows.size(), tile.keys.size());
    }
    for (std::int64_t i = 0; i < tile.rows.size(); ++i) {
      Range keys = {0, tile.keys.size()};
      if (tile.kind == Kind::causal) keys.end = i + 1;
      if (tile.kind == Kind::masked) keys = tile.intervals.at(i);
      EXPECT_FALSE(keys.empty());
      for (std::int64_t k = keys.begin; k < keys.end; ++k) {
        ++times[{tile.rows.begin + i, tile.keys.begin + k}];
      }
    }
  }
  return times;
}

void expect_exact_cover(const std::vector<Range>& intervals) {
  const auto times = pairs(local_tiles(intervals));
  std::size_t visible = 0;
  for (std::size_t row = 0; row < intervals.size(); ++row) {
    for (std::int64_t k = intervals[row].begin; k < intervals[row].end; ++k) {
      ++visible;
      const auto found = times.find({static_cast<std::int64_t>(row), k});
      ASSERT_NE(found, times.end());
      ASSERT_EQ(found->second, 1);
    }
  }
  EXPECT_EQ(times.size(), visible);
}

TEST(LocalTile, FullAndSquareCausalAreOneTile) {
  const std::vector<Range> full(40, Range{0, 30});
  ASSERT_EQ(local_tiles(full).size(), 1u);
  EXPECT_EQ(local_tiles(full)[0].kind, Kind::full);

  std::vector<Range> causal;
  for (int i = 0; i < 40; ++i) causal.push_back({0, i + 1});
  ASSERT_EQ(local_tiles(causal).size(), 1u);
  EXPECT_EQ(local_tiles(causal)[0].kind, Kind::causal);
}

TEST(LocalTile, ARectangleIsSplitOffATrapezium) {
  std::vector<Range> rows;
  for (int i = 0; i < 20; ++i) rows.push_back({3, 11 + i});
  const auto tiles = local_tiles(rows);
  ASSERT_EQ(tiles.size(), 2u);
  EXPECT_EQ(tiles[0].keys, (Range{3, 10}));
  EXPECT_EQ(tiles[1].kind, Kind::causal);
  EXPECT_EQ(tiles[1].keys, (Range{10, 30}));
  expect_exact_cover(rows);
}

TEST(LocalTile, NothingVisibleIsNoTile) {
  EXPECT_TRUE(local_tiles({}).empty());
  EXPECT_TRUE(local_tiles(std::vector<Range>(9)).empty());
}

TEST(LocalTile, WindowsBecomeNarrowBands) {
  const auto mask = schedule::Mask::causal().with_window({50, {}});
  const auto rows = mask.intervals({0, 1000, 1}, {0, 1000, 1}, 1000);
  expect_exact_cover(rows);
  for (const LocalTile& tile : local_tiles(rows)) {
    EXPECT_LE(tile.keys.size(), 50 + 128 + 1);
  }
}

TEST(LocalTile, RandomIntervalsAreCoveredExactlyOnce) {
  std::mt19937 random(7);
  const auto below = [&](int n) { return static_cast<int>(random() % n); };
  for (int trial = 0; trial < 500; ++trial) {
    std::vector<Range> rows;
    while (rows.size() < 200) {
      Range keys = {below(5), 5 + below(20)};
      const int slope_begin = below(2);
      const int slope_end = below(2);
      if (below(5) == 0) keys = {};
      for (int i = below(40); i >= 0; --i) {
        rows.push_back(keys);
        if (keys.empty()) continue;
        keys = {keys.begin + slope_begin, keys.end + slope_end};
        if (keys.empty()) keys = {};
      }
    }
    expect_exact_cover(rows);
  }
}

}  // namespace
}  // namespace ringweave::attention
