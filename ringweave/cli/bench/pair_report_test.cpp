#include "ringweave/cli/bench/pair_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ringweave::cli {
namespace {

using testing::HasSubstr;

BenchReport example() {
  // A slow machine in the second pair slows both: the ratio stays.
  return {.name = "ring",
          .pairs = {{1.0, 2.0}, {10.0, 20.0}, {3.0, 2.0}},
          .links = {{0, 1, 64, 64}, {1, 0, 32, 32}},
          .max_error = 1e-7};
}

TEST(BenchReport, RatiosArePairByPair) {
  const Json json = to_json(example(), 300);
  EXPECT_EQ(json["ratio"]["median"], 0.5);
  EXPECT_EQ(json["ratio"]["max"], 1.5);
  EXPECT_EQ(json["split_seconds"]["median"], 3.0);
  EXPECT_EQ(json["tokens_per_second"], 100.0);
  EXPECT_EQ(json["links"][0]["sent_bytes"], 64);
}

TEST(BenchReport, TableSaysWhenBytesDifferFromThePlan) {
  EXPECT_THAT(table({example()}, 300),
              HasSubstr("32 to 64 bytes per link, as"));
  BenchReport wrong = example();
  wrong.links[1].sent_bytes = 31;
  EXPECT_THAT(table({wrong}, 300), HasSubstr("NOT AS PLANNED on 1 links"));
}

}  // namespace
}  // namespace ringweave::cli
