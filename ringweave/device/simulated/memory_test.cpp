// Memory: pinned, given back too early, used too early.
#include <thread>

#include "ringweave/device/simulated/test_streams.h"

namespace ringweave::device::simulated {
namespace {

using at::Tensor;
using testing::IsEmpty;

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
  EXPECT_TRUE(at::zeros({4}).pin_memory().is_pinned());
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

}  // namespace
}  // namespace ringweave::device::simulated
