#include "ringweave/attention/band_blocks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ringweave::attention {
namespace {

using schedule::Area;
using schedule::kUnlimited;
using ::testing::ElementsAre;

struct Runs {
  schedule::Run queries;
  schedule::Run keys;
};

TEST(BandBlocks, HoldEachVisiblePairOnce) {
  const std::vector<Runs> runs = {{{0, 400, 1}, {0, 400, 1}},
                                  {{300, 400, 1}, {0, 500, 1}},
                                  {{2, 300, 5}, {1, 60, 25}},
                                  {{1, 60, 25}, {2, 300, 5}},
                                  {{0, 37, 3}, {4, 29, 7}}};
  const std::vector<std::int64_t> sides = {0, 3, 90, 270, kUnlimited};
  int bands = 0;
  for (const auto& [queries, keys] : runs) {
    for (const std::int64_t left : sides) {
      for (const std::int64_t right : sides) {
        std::vector<Area> areas;
        schedule::add_band_areas(queries, keys, left, right, areas);
        for (const Area& area : areas) {
          if (area.kind != Area::Kind::band) continue;
          ++bands;
          std::vector<int> count(area.rows.size() * area.keys.size());
          const auto at = [&](std::int64_t row, std::int64_t key) -> int& {
            return count.at((row - area.rows.begin) * area.keys.size() + key -
                            area.keys.begin);
          };
          for (const Area& block : band_blocks(area)) {
            EXPECT_LE(block.rows.size(), 128);
            for (std::int64_t i = 0; i < block.rows.size(); ++i) {
              const Range seen = block.seen(i);
              for (std::int64_t j = seen.begin; j < seen.end; ++j) {
                ++at(block.rows.begin + i, j);
              }
            }
          }
          for (std::int64_t i = 0; i < area.rows.size(); ++i) {
            const Range seen = area.seen(i);
            for (std::int64_t j = area.keys.begin; j < area.keys.end; ++j) {
              const bool want = seen.begin <= j && j < seen.end;
              ASSERT_EQ(at(area.rows.begin + i, j), want ? 1 : 0);
            }
          }
        }
      }
    }
  }
  EXPECT_GT(bands, 30);
}

TEST(BandBlocks, OfAWindowAreAlike) {
  std::vector<Area> areas;
  schedule::add_band_areas({0, 1000, 1}, {0, 1000, 1}, 99, 0, areas);
  ASSERT_EQ(areas.back().kind, Area::Kind::band);
  std::vector<Area> blocks = band_blocks(areas.back());
  ASSERT_EQ(blocks.size(), 8);
  blocks.pop_back();
  for (const Area& block : blocks) {
    EXPECT_EQ(block.rows.size(), 128);
    EXPECT_EQ(block.keys.size(), 128 + 99);
    EXPECT_EQ(block.band, blocks.front().band);
  }
}

TEST(BandBlocks, SplitOffWhatAllRowsSee) {
  // Every fifth stripe: a step of one key every five rows.
  std::vector<Area> areas;
  schedule::add_band_areas({0, 256, 1}, {0, 52, 5}, kUnlimited, 0, areas);
  ASSERT_EQ(areas.size(), 1);
  const std::vector<Area> blocks = band_blocks(areas[0]);
  ASSERT_EQ(blocks.size(), 3);
  EXPECT_EQ(blocks[0].kind, Area::Kind::band);
  EXPECT_EQ(blocks[1], (Area{{128, 256}, {0, 26}}));
  EXPECT_EQ(blocks[2].kind, Area::Kind::band);
  EXPECT_EQ(blocks[2].rows, (Range{130, 256}));
  EXPECT_EQ(blocks[2].keys, (Range{26, 52}));
}

}  // namespace
}  // namespace ringweave::attention
