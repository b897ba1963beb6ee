// What is reported, and what is not, of operations on two streams.
#include <thread>

#include "ringweave/device/simulated/test_streams.h"

namespace ringweave::device::simulated {
namespace {

using at::Tensor;
using testing::IsEmpty;
using testing::Not;

class Order : public TwoStreams {
 protected:
  const c10::Stream far = stream_of(1);
  const Tensor y = at::zeros({4}, device(1));

  void write(c10::Stream stream) {
    on(stream, [&] { x.fill_(1); });
  }
  void read(c10::Stream stream) {
    on(stream, [&] { x.sum(); });
  }
};

TEST_F(Order, OfAReadAfterAWriteIsMissing) {
  label(x, "x");
  settle();
  write(a);
  read(b);
  const auto reports = take_reports();
  ASSERT_THAT(reports, is_one("read-after-write"));
  EXPECT_THAT(reports[0].now, testing::StartsWith("aten::sum@sim:0/s"));
  EXPECT_THAT(reports[0].before, testing::StartsWith("aten::fill_@sim:0/s"));
  EXPECT_EQ(reports[0].where, "x [0,16)");
}

TEST_F(Order, OfAWriteAfterAReadIsMissing) {
  settle();
  read(a);
  write(b);
  EXPECT_THAT(take_reports(), is_one("write-after-read"));
}

TEST_F(Order, OfTwoWritesIsMissing) {
  settle();
  write(a);
  write(b);
  EXPECT_THAT(take_reports(), is_one("write-after-write"));
}

TEST_F(Order, OfReadsAndViewsIsNotNeeded) {
  settle();
  read(a);
  read(b);
  on(b, [&] { x.view({2, 2}).t(); });
  EXPECT_THAT(take_reports(), IsEmpty());
}

TEST_F(Order, IsMadeByAnEvent) {
  settle();
  write(a);
  wait_for(b, a);
  read(b);
  EXPECT_THAT(take_reports(), IsEmpty());
}

TEST_F(Order, IsMadeByWhateverTheHostWaitsFor) {
  const auto read_in_order = [&](const char* what) {
    read(b);
    EXPECT_THAT(take_reports(), IsEmpty()) << what;
    b.synchronize();
  };
  settle();
  write(a);
  a.synchronize();
  read_in_order("Stream::synchronize");
  write(a);
  EXPECT_TRUE(a.query());
  read_in_order("Stream::query");
  write(a);
  guards().synchronizeDevice(0);
  read_in_order("synchronizeDevice");
  on(a, [&] { x.fill_(2).sum().item(); });
  read_in_order("item");
  on(a, [&] { x.fill_(2).nonzero(); });
  read_in_order("a result whose shape depends on values");
  on(a, [&] { x.fill_(2).equal(x.clone()); });
  read_in_order("a result that is no tensor");
  on(a, [&] { x.fill_(2).cpu(); });
  read_in_order("a blocking copy");
}

TEST_F(Order, OfAHostsReadIsThatOfItsStream) {
  settle();
  write(a);
  on(b, [&] { x.cpu(); });
  EXPECT_THAT(take_reports(), is_one("read-after-write"));
  write(a);
  on(b, [&] { x[0].item(); });
  EXPECT_THAT(take_reports(), Not(IsEmpty()));
}

TEST_F(Order, OfACopyBetweenDevicesIsThatOfBothCurrentStreams) {
  settle();
  on(far, [&] {
    y.fill_(1);
    on(a, [&] { y.copy_(x, true); });
    y.sum();
  });
  EXPECT_THAT(take_reports(), IsEmpty());
}

TEST_F(Order, OfACopyToADeviceWhoseStreamIsNotCurrentIsMissing) {
  settle();
  on(far, [&] { y.fill_(1); });
  on(a, [&] { y.copy_(x, true); });
  EXPECT_THAT(take_reports(), is_one("write-after-write"));
}

TEST_F(Order, GoesToAThreadAtItsStartAndFromItAtItsEnd) {
  settle();
  write(a);
  a.synchronize();
  std::thread([&] { read(b); }).join();
  EXPECT_THAT(take_reports(), IsEmpty());
  std::thread([&] {
    write(a);
    a.synchronize();
  }).join();
  b.synchronize();
  read(b);
  EXPECT_THAT(take_reports(), is_one("write-after-read"));
}

TEST_F(Order, OfAccessesByDataPointerIsCheckedWhereTheyAreTold) {
  settle();
  write(a);
  host_access(x, false, "data_ptr");
  EXPECT_THAT(take_reports(), is_one("host read-after-write"));
  a.synchronize();
  host_access(x, true, "data_ptr");
  read(b);
  EXPECT_THAT(take_reports(), IsEmpty());
}

class Bytes : public TwoStreams {
 protected:
  bool race(const Tensor& written, const Tensor& read) {
    settle();
    on(a, [&] { written.fill_(1); });
    on(b, [&] { read.sum(); });
    return !take_reports().empty();
  }

  const Tensor m = at::zeros({8, 16}, device(0));
};

TEST_F(Bytes, OfSlotsAreTheirOwn) {
  EXPECT_FALSE(race(m[0], m[1]));
  EXPECT_TRUE(race(m[1], m[1]));
  EXPECT_FALSE(race(m.slice(0, 0, 4), m.slice(0, 4)));
  EXPECT_TRUE(race(m.slice(0, 0, 5), m.slice(0, 4)));
}

TEST_F(Bytes, OfColumnsAreTheirOwn) {
  EXPECT_FALSE(race(m.slice(1, 0, 8), m.slice(1, 8)));
  EXPECT_TRUE(race(m.slice(1, 0, 9), m.slice(1, 8)));
  EXPECT_TRUE(race(m.t(), m[5]));
  EXPECT_TRUE(race(m.select(1, 3), m[2]));
}

TEST_F(Bytes, OfOddAndEvenColumnsAreTheirOwn) {
  EXPECT_FALSE(race(m.slice(1, 0, 16, 2), m.slice(1, 1, 16, 2)));
  EXPECT_TRUE(race(m.slice(1, 0, 16, 2), m.slice(1, 1, 16, 3)));
}

TEST_F(Bytes, OfThreeLevelsOfStridesAreTakenAsASpan) {
  const Tensor blocks = m.view({2, 4, 4, 4}).slice(1, 0, 2);
  EXPECT_TRUE(race(blocks.slice(3, 0, 2), blocks.slice(3, 2)));
}

}  // namespace
}  // namespace ringweave::device::simulated
