#include "ringweave/emulation/link_model.h"

#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/emulation/test_topology.h"

namespace ringweave::emulation {
namespace {

using topology::Topology;
using topology::VertexKind;

/// Lets time pass until `message` is there.
double arrival(LinkModel& model, int message) {
  while (!model.arrived(message)) EXPECT_TRUE(model.advance());
  return model.seconds();
}

TEST(LinkModel, AMessageTakesLatencyAndBytesOverRate) {
  LinkModel model(star(3));
  const int message = model.start(0, 1, 200);
  EXPECT_FALSE(model.arrived(message));
  EXPECT_DOUBLE_EQ(arrival(model, message), 3);
  EXPECT_FALSE(model.advance());
}

TEST(LinkModel, SharesAPortFairly) {
  // 0 → 1 and 0 → 2 have 50 each until the short one is sent at t = 2.
  LinkModel model(star(4));
  const int shorter = model.start(0, 1, 100);
  const int longer = model.start(0, 2, 200);
  const int other = model.start(3, 0, 150);
  EXPECT_DOUBLE_EQ(arrival(model, other), 2.5);
  EXPECT_DOUBLE_EQ(arrival(model, shorter), 3);
  EXPECT_DOUBLE_EQ(arrival(model, longer), 4);
}

TEST(LinkModel, MaxMinGivesWhatOthersCanNotUse) {
  // Port into 2: three senders have 100/3; 0 → 1 gets the rest of port 0.
  LinkModel model(star(5));
  for (const Rank from : {0, 3, 4}) model.start(from, 2, 300);
  const int rest = model.start(0, 1, 200);
  EXPECT_NEAR(arrival(model, rest), 4, 1e-9);
}

TEST(LinkModel, MessagesOfAPairFollowEachOther) {
  LinkModel model(star(2));
  const int first = model.start(0, 1, 100);
  const int second = model.start(0, 1, 100);
  EXPECT_DOUBLE_EQ(arrival(model, first), 2);
  EXPECT_DOUBLE_EQ(arrival(model, second), 3);
}

TEST(LinkModel, APairThatStartsAgainCountsOnce) {
  LinkModel model(star(3, 0));
  EXPECT_DOUBLE_EQ(arrival(model, model.start(0, 1, 100)), 1);
  const int again = model.start(0, 1, 100);
  const int other = model.start(0, 2, 100);
  EXPECT_DOUBLE_EQ(arrival(model, again), 3);
  EXPECT_DOUBLE_EQ(arrival(model, other), 3);
}

TEST(LinkModel, SharedCapacityIsOne) {
  Topology::Spec spec{
      .name = "half duplex",
      .source = {},
      .vertices = {{VertexKind::rank, "a", 0}, {VertexKind::rank, "b", 0}},
      .links = {{0, 1, 100, 0, "bus", 7}, {1, 0, 100, 0, "bus", 7}}};
  LinkModel model{Topology(std::move(spec))};
  const int there = model.start(0, 1, 100);
  model.start(1, 0, 100);
  EXPECT_DOUBLE_EQ(arrival(model, there), 2);
}

TEST(LinkModel, WantsARouteBetweenAll) {
  Topology::Spec spec{
      .name = "one way",
      .source = {},
      .vertices = {{VertexKind::rank, "a", 0}, {VertexKind::rank, "b", 0}},
      .links = {{0, 1, 100, 0, "link"}}};
  EXPECT_THROW(LinkModel{Topology(std::move(spec))}, InvalidArgument);
}

}  // namespace
}  // namespace ringweave::emulation
