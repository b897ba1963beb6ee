#include "ringweave/planner/cost/device_table.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave::planner {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(TileSeconds, LinesBetweenPointsAndBeyond) {
  const TileSeconds tiles{{{100, 1}, {200, 3}, {400, 4}}};
  EXPECT_DOUBLE_EQ(tiles.seconds(0), 0);
  EXPECT_DOUBLE_EQ(tiles.seconds(50), 0.5);
  EXPECT_DOUBLE_EQ(tiles.seconds(100), 1);
  EXPECT_DOUBLE_EQ(tiles.seconds(150), 2);
  EXPECT_DOUBLE_EQ(tiles.seconds(400), 4);
  EXPECT_DOUBLE_EQ(tiles.seconds(800), 8);
  EXPECT_DOUBLE_EQ((TileSeconds{{{100, 1}}}).seconds(300), 3);
}

TEST(TileSeconds, NeverFallsWithTheArea) {
  const TileSeconds noisy{{{100, 2}, {200, 1}, {300, 1.5}}};
  EXPECT_DOUBLE_EQ(noisy.seconds(150), 2);
  EXPECT_DOUBLE_EQ(noisy.seconds(250), 2);
  double last = 0;
  for (int area = 0; area <= 1000; area += 5) {
    EXPECT_GE(noisy.seconds(area), last) << area;
    last = noisy.seconds(area);
  }
}

TEST(TileSeconds, NoiseOfTheLastPointsIsNotMagnified) {
  // The last measurement came out no slower than the one before.
  const TileSeconds flat{{{1000, 1}, {2000, 2}, {2200, 2}}};
  EXPECT_DOUBLE_EQ(flat.seconds(22000), 20);
  const TileSeconds steep{{{1000, 1}, {2000, 2}, {2200, 3}}};
  EXPECT_DOUBLE_EQ(steep.seconds(22000), 30);
}

TEST(TileSeconds, NoSplitBeatsTheLeastSeconds) {
  for (const TileSeconds& tiles :
       {TileSeconds{{{100, 1}, {200, 1.5}, {400, 4}}},
        TileSeconds{{{100, 2}, {200, 1}, {300, 1.5}}},
        TileSeconds{{{1000, 1}, {2000, 2}, {2200, 2}}},
        TileSeconds{{{100, 3}, {200, 2}}}}) {
    for (const double area : {10.0, 150.0, 2200.0, 5000.0, 1e6}) {
      const double least = tiles.least_seconds(area);
      double best = tiles.seconds(area);
      for (int pieces = 1; pieces <= 1000; ++pieces) {
        best = std::min(best, pieces * tiles.seconds(area / pieces));
      }
      EXPECT_GE(best, least * (1 - 1e-12)) << area;
    }
    // Tight: some cut reaches it.
    const TileSeconds::Point last = tiles.points.back();
    double best = tiles.seconds(1e6);
    for (int pieces = 1; pieces <= 10000; ++pieces) {
      best = std::min(best, pieces * tiles.seconds(1e6 / pieces));
    }
    EXPECT_NEAR(best, tiles.least_seconds(1e6), 1e-2 * best) << last.area;
  }
}

TEST(DeviceTable, PublishedRateTimesEfficiency) {
  const DeviceTable table = load_device_table("h100:efficiency=0.6");
  EXPECT_DOUBLE_EQ(table.tile_seconds(1e12, 128, false),
                   4e12 * 128 / (989.4e12 * 0.6));
  EXPECT_DOUBLE_EQ(table.tile_seconds(1e12, 128, true),
                   2.5 * table.tile_seconds(1e12, 128, false));
  EXPECT_DOUBLE_EQ(
      load_device_table("custom:rate=1e6,efficiency=1").flop_seconds(3e6), 3);
}

TEST(DeviceTable, RoundTripAndOtherHeadDims) {
  DeviceTable table{.name = "box", .source = "measured", .dtype = "float32"};
  table.head_dim = 64;
  table.forward = {{{1000, 1}, {2000, 1.5}}};
  EXPECT_EQ(device_table_from_json(to_json(table), "table"), table);
  EXPECT_DOUBLE_EQ(table.tile_seconds(2000, 128, false), 3);
  EXPECT_DOUBLE_EQ(table.tile_seconds(2000, 64, true), 3.75);
  table.backward = {{{1000, 4}}};
  EXPECT_EQ(device_table_from_json(to_json(table), "table"), table);
  EXPECT_DOUBLE_EQ(table.tile_seconds(2000, 64, true), 8);
  // 2000 area units in 1.5 s: 4 · 64 FLOP each.
  EXPECT_DOUBLE_EQ(table.flop_seconds(2000 * 4 * 64), 1.5);
  // Noise can't make linear layers free.
  table.forward = {{{1000, 1}, {1100, 1}}};
  EXPECT_DOUBLE_EQ(table.flop_seconds(1100 * 4 * 64), 1);
}

TEST(DeviceTable, ATableServesOnlyTheTypeThatWasMeasured) {
  DeviceTable table{.name = "box", .source = "measured", .dtype = "bfloat16"};
  table.head_dim = 64;
  table.forward = {{{1000, 1}}};
  EXPECT_NO_THROW(check_dtype(table, ElementType::bfloat16));
  EXPECT_THAT([&] { check_dtype(table, ElementType::float32); },
              ThrowsMessage<InvalidArgument>(
                  HasSubstr("box, measured with bfloat16, for a model that "
                            "computes in float32")));
  EXPECT_NO_THROW(check_dtype(load_device_table("h100"), ElementType::float32));
  Json json = to_json(table);
  json["dtype"] = "fp7";
  EXPECT_THAT([&] { device_table_from_json(json, "table"); },
              ThrowsMessage<InvalidArgument>(
                  HasSubstr("[table.dtype] got \"fp7\"; want one of")));
}

TEST(DeviceTable, BadNamesOptionsAndTablesAreErrors) {
  const auto load = [](const char* name) {
    return [name] { load_device_table(name); };
  };
  const auto fails = [](const char* word) {
    return ThrowsMessage<InvalidArgument>(HasSubstr(word));
  };
  EXPECT_THAT(load("h10"), fails("did you mean \"h100\"?"));
  EXPECT_THAT(load("h100:speed=3"), fails("speed=3"));
  EXPECT_THAT(load("h100:"), fails("the option \"\""));
  EXPECT_THAT(load("h100:efficiency=0.5,"), fails("the option \"\""));
  EXPECT_THAT(load("h100:efficiency=1.5"), fails("at most 1"));
  EXPECT_THAT(load("h100:efficiency=x"), fails("efficiency=x"));
  EXPECT_THAT(load("custom"), fails("custom:rate="));
  EXPECT_THAT(load("absent.json"), fails("absent.json"));
  const auto parse = [](const char* points) {
    return [points] {
      device_table_from_json({{"format", "ringweave.device_table"},
                              {"version", 1},
                              {"device", "box"},
                              {"dtype", "float32"},
                              {"head_dim", 64},
                              {"points", Json::parse(points)}},
                             "table");
    };
  };
  EXPECT_THAT(parse("[]"), fails("an empty list"));
  EXPECT_THAT(parse(R"([{"area": 5, "seconds": 0}])"), fails("0 s; want"));
  EXPECT_THAT(parse(R"([{"area": 1e300, "seconds": 1}])"),
              fails("area 1e+300"));
  EXPECT_THAT(parse(R"([{"area": 5, "seconds": 1e300}])"), fails("1e+300 s"));
  EXPECT_THAT(load("custom:rate=1e-310"), fails("want 1 … 1e+30 FLOP/s"));
  EXPECT_THAT(load("custom:rate=1e300"), fails("want 1 … 1e+30 FLOP/s"));
  EXPECT_THAT(load("h100:efficiency=1e-310"), fails("at least 1e-06"));
  EXPECT_THAT(
      parse(R"([{"area": 5, "seconds": 1}, {"area": 5, "seconds": 2}])"),
      fails("points[1].area"));
}

}  // namespace
}  // namespace ringweave::planner
