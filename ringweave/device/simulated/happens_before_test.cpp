#include "ringweave/device/simulated/happens_before.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ringweave::device::simulated {
namespace {

using testing::ElementsAre;
using testing::Field;
using testing::IsEmpty;
using testing::SizeIs;

constexpr ByteRows kAll{.width = 64};

/// Two streams, and the host that launches on both.
struct TwoActors {
  void read(ActorId stream, const ByteRows& bytes = kAll) {
    order.access(order.begin(stream, host, "read"), book, bytes, false);
  }
  void write(ActorId stream, const ByteRows& bytes = kAll) {
    order.access(order.begin(stream, host, "write"), book, bytes, true);
  }

  HappensBefore order;
  ActorId host = order.add_host("host");
  ActorId a = order.add_stream("a");
  ActorId b = order.add_stream("b");
  Book book{.name = "x", .accesses = {}};
};

auto kind(const char* kind) { return Field(&Report::kind, kind); }

TEST(HappensBefore, ReportsTwoAccessesOfWhichOneWrites) {
  TwoActors x;
  x.write(x.a);
  x.read(x.b);
  EXPECT_THAT(x.order.take_reports(), ElementsAre(kind("read-after-write")));
  x.write(x.a);
  EXPECT_THAT(x.order.take_reports(), ElementsAre(kind("write-after-read")));
  x.write(x.b);
  EXPECT_THAT(x.order.take_reports(),
              testing::Contains(kind("write-after-write")));
}

TEST(HappensBefore, LetsReadsAndDisjointBytesBe) {
  TwoActors x;
  x.read(x.a);
  x.read(x.b);
  x.order.order(x.a, x.host);
  x.order.order(x.b, x.host);
  x.write(x.a, {.width = 32});
  x.write(x.b, {.begin = 32, .width = 32});
  EXPECT_THAT(x.order.take_reports(), IsEmpty());
}

TEST(HappensBefore, FollowsOrderThroughOthers) {
  TwoActors x;
  const ActorId c = x.order.add_stream("c");
  x.write(x.a);
  x.order.order(x.a, c);
  x.order.order(c, x.b);
  x.read(x.b);
  EXPECT_THAT(x.order.take_reports(), IsEmpty());
  x.write(x.a);
  x.order.order(x.a, x.host);
  x.read(x.b);
  EXPECT_THAT(x.order.take_reports(), ElementsAre(kind("write-after-read")));
}

TEST(HappensBefore, AnEarlierOrderSaysNothingOfLaterOperations) {
  TwoActors x;
  x.order.order(x.a, x.b);
  x.write(x.a);
  x.read(x.b);
  EXPECT_THAT(x.order.take_reports(), SizeIs(1));
}

TEST(HappensBefore, ReportsOneKeyOnce) {
  TwoActors x;
  for (int i = 0; i < 3; ++i) {
    x.write(x.a);
    x.write(x.b);
  }
  const auto reports = x.order.take_reports();
  EXPECT_THAT(reports, ElementsAre(kind("write-after-write")));
  EXPECT_EQ(reports[0].text(),
            "write-after-write: write@b is not ordered after write@a on x "
            "[0,64)");
}

TEST(HappensBefore, KeysDoNotTellWhichCameFirst) {
  TwoActors x;
  x.write(x.a);
  x.read(x.b);
  TwoActors y;
  y.read(y.b);
  y.write(y.a);
  EXPECT_EQ(x.order.take_reports()[0].key(), y.order.take_reports()[0].key());
}

TEST(HappensBefore, FreshMemoryIsOrderedWithItsOwnStreamOnly) {
  TwoActors x;
  x.write(x.a);
  x.order.freed(x.a, x.host, {}, x.book, 64);
  x.book.accesses.clear();
  x.order.allocated(x.a, x.book, 64);
  x.write(x.b, {.begin = 8, .width = 8});
  EXPECT_THAT(x.order.take_reports(), ElementsAre(kind("fresh memory")));
  x.order.order(x.a, x.b);
  x.write(x.b);
  EXPECT_THAT(x.order.take_reports(), IsEmpty());
}

TEST(HappensBefore, MemoryGoesBackWhenItsReadersAreDone) {
  TwoActors x;
  x.read(x.b);
  x.order.freed(x.a, x.host, {x.b}, x.book, 64);
  EXPECT_THAT(x.order.take_reports(), IsEmpty());
  x.order.freed(x.a, x.host, {}, x.book, 64);
  EXPECT_THAT(x.order.take_reports(), ElementsAre(kind("freed while in use")));
}

TEST(HappensBefore, ForgetsWhatALaterAccessStandsFor) {
  TwoActors x;
  for (int i = 0; i < 100; ++i) {
    x.write(x.a);
    x.order.order(x.a, x.b);
    x.read(x.b);
    x.order.order(x.b, x.a);
  }
  EXPECT_THAT(x.book.accesses, SizeIs(2));
  x.write(x.a);
  EXPECT_THAT(x.book.accesses, SizeIs(1));
}

}  // namespace
}  // namespace ringweave::device::simulated
