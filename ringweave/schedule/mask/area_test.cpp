#include "ringweave/schedule/mask/area.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/schedule/test_cases.h"

namespace ringweave::schedule {
namespace {

using ::testing::ElementsAre;
using Kind = Area::Kind;

std::vector<Area> areas_of(const schedule::Run& queries,
                           const schedule::Run& keys, std::int64_t left,
                           std::int64_t right) {
  std::vector<Area> areas;
  add_band_areas(queries, keys, left, right, areas);
  return areas;
}

TEST(Area, HoldEachVisiblePairOnce) {
  const std::vector<schedule::Run> runs = {
      {0, 23, 1}, {4, 0, 1},  {0, 5, 1}, {3, 6, 1},  {9, 14, 1}, {1, 6, 4},
      {0, 4, 7},  {22, 1, 1}, {2, 7, 3}, {3, 10, 2}, {0, 8, 3},  {1, 8, 3}};
  const std::vector<std::int64_t> sides = {0, 1, 2, 3, 6, 13, kUnlimited};
  for (const schedule::Run& queries : runs) {
    for (const schedule::Run& keys : runs) {
      for (const std::int64_t left : sides) {
        for (const std::int64_t right : sides) {
          const std::vector<Area> areas = areas_of(queries, keys, left, right);
          ASSERT_LE(areas.size(), 4u);
          std::int64_t pairs = 0;
          for (std::int64_t i = 0; i < queries.length; ++i) {
            for (std::int64_t j = 0; j < keys.length; ++j) {
              const std::int64_t distance = keys.at(j) - queries.at(i);
              const bool want = -left <= distance && distance <= right;
              pairs += want ? 1 : 0;
              ASSERT_EQ(showing(areas, i, j), want ? 1 : 0)
                  << "query " << queries.at(i) << " key " << keys.at(j)
                  << " left " << left << " right " << right;
            }
          }
          std::int64_t counted = 0;
          for (const Area& area : areas) {
            EXPECT_FALSE(area.rows.empty());
            EXPECT_FALSE(area.keys.empty());
            EXPECT_LE(area.keys.end, keys.length);
            if (area.kind == Kind::causal) {
              EXPECT_EQ(area.rows.size(), area.keys.size());
            }
            counted += area.pairs();
          }
          ASSERT_EQ(counted, pairs);
          ASSERT_EQ(any_in_band(queries, keys, left, right), pairs > 0);
        }
      }
    }
  }
}

TEST(Area, CausalRunsAreSquaresAndFullAreas) {
  // Of itself, before, behind, and half way.
  EXPECT_THAT(areas_of({10, 8, 1}, {10, 8, 1}, kUnlimited, 0),
              ElementsAre(Area{{0, 8}, {0, 8}, Kind::causal}));
  EXPECT_THAT(areas_of({10, 8, 1}, {2, 8, 1}, kUnlimited, 0),
              ElementsAre(Area{{0, 8}, {0, 8}}));
  EXPECT_THAT(areas_of({10, 8, 1}, {18, 8, 1}, kUnlimited, 0), ElementsAre());
  EXPECT_THAT(
      areas_of({10, 8, 1}, {6, 8, 1}, kUnlimited, 0),
      ElementsAre(Area{{0, 4}, {0, 4}}, Area{{0, 4}, {4, 8}, Kind::causal},
                  Area{{4, 8}, {0, 8}}));
  EXPECT_THAT(areas_of({5, 1, 1}, {5, 1, 1}, kUnlimited, 0),
              ElementsAre(Area{{0, 1}, {0, 1}, Kind::causal}));
  // Stripes: those of an earlier rank, and those of a later one, shifted by
  // one.
  EXPECT_THAT(areas_of({3, 8, 5}, {1, 8, 5}, kUnlimited, 0),
              ElementsAre(Area{{0, 8}, {0, 8}, Kind::causal}));
  EXPECT_THAT(areas_of({3, 8, 5}, {4, 8, 5}, kUnlimited, 0),
              ElementsAre(Area{{1, 8}, {0, 7}, Kind::causal}));
}

TEST(Area, WindowsAreATriangleAndABand) {
  EXPECT_THAT(areas_of({0, 9, 1}, {0, 9, 1}, 3, 0),
              ElementsAre(Area{{0, 4}, {0, 4}, Kind::causal},
                          Area{{4, 9}, {1, 9}, Kind::band, {1, 1, 0, 3}}));
}

TEST(Area, StrandsOfStripesAreOneBand) {
  // Every third stripe: three rows to a step.
  EXPECT_THAT(areas_of({0, 9, 2}, {1, 3, 6}, kUnlimited, 0),
              ElementsAre(Area{
                  {1, 9}, {0, 3}, Kind::band, {2, 6, -kUnlimited + 1, 1}}));
}

TEST(Area, NeighboursAreJoined) {
  // The own shard of a zigzag layout.
  std::vector<Area> own = {{{0, 3}, {0, 3}, Kind::causal},
                           {{3, 7}, {0, 3}},
                           {{3, 7}, {3, 7}, Kind::causal}};
  join_areas(own);
  EXPECT_THAT(own, ElementsAre(Area{{0, 7}, {0, 7}, Kind::causal}));
  // Both runs of queries see two blocks of keys.
  std::vector<Area> blocks = {
      {{0, 3}, {4, 9}}, {{3, 7}, {0, 4}}, {{0, 3}, {0, 4}}, {{3, 7}, {4, 9}}};
  join_areas(blocks);
  EXPECT_THAT(blocks, ElementsAre(Area{{0, 7}, {0, 9}}));
  // Without the area between them two documents stay two.
  std::vector<Area> documents = {{{0, 3}, {0, 3}, Kind::causal},
                                 {{3, 7}, {3, 7}, Kind::causal}};
  const std::vector<Area> before = documents;
  join_areas(documents);
  EXPECT_EQ(documents, before);
  std::vector<Area> none;
  join_areas(none);
  EXPECT_TRUE(none.empty());
}

}  // namespace
}  // namespace ringweave::schedule
