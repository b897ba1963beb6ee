#include "ringweave/topology/fabric.h"

#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave::topology {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

Fabric two_level() {
  return {.kind = FabricKind::two_level,
          .ranks = 8,
          .link_bytes_per_second = 4e9,
          .nodes = 2,
          .inside = FabricKind::mesh,
          .nic_bytes_per_second = 1e9,
          .nics_per_node = 2};
}

void expect_refused(const Fabric& fabric, const char* text) {
  EXPECT_THAT([&] { check(fabric); },
              ThrowsMessage<InvalidArgument>(HasSubstr(text)));
}

TEST(Fabric, AcceptsWhatMakesSense) {
  check({.kind = FabricKind::mesh, .ranks = 1, .link_bytes_per_second = 1});
  check({.kind = FabricKind::torus,
         .ranks = 24,
         .link_bytes_per_second = 1,
         .dimensions = {2, 3, 4}});
  check(two_level());
  EXPECT_EQ(two_level().ranks_per_node(), 4);
}

TEST(Fabric, RefusesRatesAndLatenciesThatAreNone) {
  for (const double rate :
       {0.0, -1.0, std::numeric_limits<double>::infinity()}) {
    expect_refused({.ranks = 2, .link_bytes_per_second = rate},
                   "bytes per second");
    Fabric fabric = two_level();
    fabric.nic_bytes_per_second = rate;
    expect_refused(fabric, "NICs of");
  }
  expect_refused(
      {.ranks = 2, .link_bytes_per_second = 1, .link_latency_seconds = -1e-6},
      "latency");
  expect_refused({.ranks = 0, .link_bytes_per_second = 1}, "0 ranks");
}

TEST(Fabric, RefusesATorusWhoseSidesDoNotFit) {
  Fabric torus = {.kind = FabricKind::torus,
                  .ranks = 12,
                  .link_bytes_per_second = 1,
                  .dimensions = {3, 5}};
  expect_refused(torus, "12 ranks in a torus of 15 places");
  torus.dimensions = {12};
  expect_refused(torus, "1 dimensions");
  torus.dimensions = {12, 1};
  expect_refused(torus, "side of 1");
}

TEST(Fabric, RefusesNodesThatDoNotDivide) {
  Fabric fabric = two_level();
  fabric.nodes = 3;
  expect_refused(fabric, "8 ranks in 3 nodes");
  fabric = two_level();
  fabric.nics_per_node = 3;
  expect_refused(fabric, "3 NICs for the 4 ranks");
  fabric = two_level();
  fabric.inside = FabricKind::ring;
  expect_refused(fabric, "ring inside");
}

}  // namespace
}  // namespace ringweave::topology
