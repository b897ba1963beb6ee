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

class Pinned : public TwoStreams {
 protected:
  Pinned() { watch_host(true); }
  ~Pinned() override { watch_host(false); }

  Tensor pinned =
      at::zeros({4}, at::TensorOptions().pinned_memory(true)).fill_(0);
};

TEST_F(Pinned, MemoryIsKnownAsSuch) {
  EXPECT_TRUE(pinned.is_pinned());
  EXPECT_TRUE(pinned.slice(0, 1).is_pinned());
  EXPECT_FALSE(at::zeros({4}).is_pinned());
}

TEST_F(Pinned, MemoryIsReadTooEarly) {
  settle();
  on(a, [&] { pinned.copy_(x, true); });
  pinned.sum();
  EXPECT_THAT(take_reports(), is_one("host read-after-write"));
}

TEST_F(Pinned, MemoryIsReadByACopyOfTheHostTooEarly) {
  settle();
  on(a, [&] { pinned.copy_(x, true); });
  pinned.clone();
  EXPECT_THAT(take_reports(), is_one("host read-after-write"));
}

TEST_F(Pinned, MemoryIsReadAfterTheCopy) {
  settle();
  on(a, [&] { pinned.copy_(x, true); });
  a.synchronize();
  pinned.sum();
  on(a, [&] { pinned.copy_(x, false); });
  pinned.sum();
  EXPECT_THAT(take_reports(), IsEmpty());
}

TEST_F(Pinned, MemoryIsWrittenTooEarly) {
  settle();
  on(a, [&] { x.copy_(pinned, true); });
  pinned.fill_(3);
  EXPECT_THAT(take_reports(), is_one("host write-after-read"));
}

TEST_F(Pinned, MemoryIsWrittenBeforeTheCopy) {
  settle();
  pinned.fill_(3);
  on(a, [&] { x.copy_(pinned, true); });
  on(b, [&] { pinned.to(device(0), true); });
  EXPECT_THAT(take_reports(), IsEmpty());
}

TEST_F(Pinned, MemoryMayBeViewedAnyTime) {
  settle();
  on(a, [&] { pinned.copy_(x, true); });
  pinned.view({2, 2}).t().detach();
  at::empty_like(pinned);
  EXPECT_THAT(take_reports(), IsEmpty());
}

TEST_F(Pinned, MemoryIsWatchedInThreadsToo) {
  settle();
  on(a, [&] { pinned.copy_(x, true); });
  std::thread([&] { pinned.sum(); }).join();
  EXPECT_THAT(take_reports(), is_one("host read-after-write"));
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

class Freed : public TwoStreams {
 protected:
  /// A tensor of stream a that stream b has read.
  Tensor lent() {
    Tensor tensor;
    on(a, [&] { tensor = at::ones({64}, device(0)); });
    wait_for(b, a);
    on(b, [&] { tensor.sum(); });
    return tensor;
  }
};

TEST_F(Freed, WhileAnotherStreamReads) {
  lent();
  EXPECT_THAT(take_reports(), is_one("freed while in use"));
}

TEST_F(Freed, AfterTheReaderWasRecorded) {
  lent().record_stream(b);
  EXPECT_THAT(take_reports(), IsEmpty());
}

TEST_F(Freed, AfterItsOwnStreamWaited) {
  const Tensor tensor = lent();
  wait_for(a, b);
  EXPECT_THAT(take_reports(), IsEmpty());
}

TEST_F(Freed, AfterTheHostWaited) {
  const Tensor tensor = lent();
  b.synchronize();
  EXPECT_THAT(take_reports(), IsEmpty());
}

class Fresh : public TwoStreams {
 protected:
  /// Memory that stream a may have freed just now, written by stream b.
  void write_on_b(bool waits) {
    on(a, [&] {
      at::ones({64}, device(0));
      const Tensor fresh = at::empty({64}, device(0));
      if (waits) wait_for(b, a);
      on(b, [&] { fresh.fill_(1); });
      wait_for(a, b);
    });
  }
};

TEST_F(Fresh, MemoryIsUsedByAnotherStream) {
  write_on_b(false);
  EXPECT_THAT(take_reports(), is_one("fresh memory"));
}

TEST_F(Fresh, MemoryIsUsedByAnotherStreamThatWaited) {
  write_on_b(true);
  EXPECT_THAT(take_reports(), IsEmpty());
}

TEST_F(Fresh, MemoryIsNotCheckedIfNotWanted) {
  configure({.check_fresh_memory = false});
  write_on_b(false);
  configure({});
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
