#include "ringweave/plan/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave::plan {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(AreaTable, LinesBetweenPointsAndBeyond) {
  const AreaTable table{{{100, 1}, {200, 3}, {400, 4}}};
  EXPECT_DOUBLE_EQ(table.seconds(0), 0);
  EXPECT_DOUBLE_EQ(table.seconds(50), 0.5);
  EXPECT_DOUBLE_EQ(table.seconds(100), 1);
  EXPECT_DOUBLE_EQ(table.seconds(150), 2);
  EXPECT_DOUBLE_EQ(table.seconds(400), 4);
  EXPECT_DOUBLE_EQ(table.seconds(800), 6);
  EXPECT_DOUBLE_EQ((AreaTable{{{100, 1}}}).seconds(300), 3);
}

TEST(AreaTable, NeverFallsWithTheArea) {
  const AreaTable noisy{{{100, 2}, {200, 1}}};
  EXPECT_DOUBLE_EQ(noisy.seconds(150), 2);
  EXPECT_DOUBLE_EQ(noisy.seconds(900), 2);
}

TEST(Device, PublishedRateTimesEfficiency) {
  const Device device = load_device("h100:efficiency=0.6");
  EXPECT_DOUBLE_EQ(device.tile_seconds(1e12, 128, false),
                   4e12 * 128 / (989.4e12 * 0.6));
  EXPECT_DOUBLE_EQ(device.tile_seconds(1e12, 128, true),
                   2.5 * device.tile_seconds(1e12, 128, false));
  EXPECT_DOUBLE_EQ(
      load_device("custom:rate=1e6,efficiency=1").flop_seconds(3e6), 3);
}

TEST(Device, TableRoundTripAndOtherHeadDims) {
  Device device{.name = "box", .source = "measured", .dtype = "float32"};
  device.head_dim = 64;
  device.forward = {{{1000, 1}, {2000, 1.5}}};
  EXPECT_EQ(device_from_json(to_json(device), "table"), device);
  EXPECT_DOUBLE_EQ(device.tile_seconds(2000, 128, false), 3);
  EXPECT_DOUBLE_EQ(device.tile_seconds(2000, 64, true), 3.75);
  device.backward = {{{1000, 4}}};
  EXPECT_EQ(device_from_json(to_json(device), "table"), device);
  EXPECT_DOUBLE_EQ(device.tile_seconds(2000, 64, true), 8);
  // 500 area units a half second: 4 · 64 FLOP each.
  EXPECT_DOUBLE_EQ(device.flop_seconds(1000 * 4 * 64), 0.5);
}

TEST(Device, BadNamesOptionsAndTablesAreErrors) {
  const auto load = [](const char* name) {
    return [name] { load_device(name); };
  };
  const auto fails = [](const char* word) {
    return ThrowsMessage<InvalidArgument>(HasSubstr(word));
  };
  EXPECT_THAT(load("h10"), fails("did you mean \"h100\"?"));
  EXPECT_THAT(load("h100:speed=3"), fails("speed=3"));
  EXPECT_THAT(load("h100:efficiency=1.5"), fails("at most 1"));
  EXPECT_THAT(load("h100:efficiency=x"), fails("efficiency=x"));
  EXPECT_THAT(load("custom"), fails("custom:rate="));
  EXPECT_THAT(load("absent.json"), fails("absent.json"));
  const auto parse = [](const char* points) {
    return [points] {
      device_from_json({{"format", "ringweave.device_table"},
                        {"version", 1},
                        {"device", "box"},
                        {"dtype", "float32"},
                        {"head_dim", 64},
                        {"points", Json::parse(points)}},
                       "table");
    };
  };
  EXPECT_THAT(parse("[]"), fails("an empty list"));
  EXPECT_THAT(parse(R"([{"area": 5, "seconds": 0}])"), fails("above 0"));
  EXPECT_THAT(
      parse(R"([{"area": 5, "seconds": 1}, {"area": 5, "seconds": 2}])"),
      fails("points[1].area"));
}

}  // namespace
}  // namespace ringweave::plan
