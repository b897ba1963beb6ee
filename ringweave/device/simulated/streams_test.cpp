// Streams, events and the current device, as c10's types see them.
#include <thread>

#include <ATen/DeviceAccelerator.h>

#include "ringweave/device/simulated/test_streams.h"

namespace ringweave::device::simulated {
namespace {

using at::Tensor;
using testing::IsEmpty;

class Streams : public TwoStreams {};

TEST_F(Streams, DifferUntilThePoolIsUsedUp) {
  const c10::Stream one = guards().getNewStream(device(0));
  EXPECT_NE(a, b);
  EXPECT_NE(a, one);
  EXPECT_EQ(guards().getDefaultStream(device(0)).id(), 0);
  for (int i = 0; i < 30; ++i) EXPECT_NE(stream_of(0), a);
  EXPECT_EQ(stream_of(0), a);
}

TEST_F(Streams, AreCurrentInOneThreadUntilTheGuardEnds) {
  const c10::Stream there = stream_of(3);
  on(there, [&] {
    EXPECT_EQ(guards().getStream(device(3)), there);
    EXPECT_EQ(guards().getDevice(), device(3));
    std::thread([] {
      EXPECT_EQ(guards().getStream(device(3)).id(), 0);
      EXPECT_EQ(guards().getDevice(), device(0));
    }).join();
  });
  EXPECT_EQ(at::accelerator::getCurrentStream(3).id(), 0);
  EXPECT_EQ(guards().getDevice(), device(0));
}

class Events : public TwoStreams {
 protected:
  const Tensor y = at::zeros({4}, device(0));
  c10::Event event{kType};
};

TEST_F(Events, NeverRecordedOrderNothing) {
  settle();
  on(a, [&] { x.fill_(1); });
  EXPECT_TRUE(event.query());
  event.synchronize();
  event.block(b);
  on(b, [&] { x.sum(); });
  EXPECT_THAT(take_reports(), is_one("read-after-write"));
}

TEST_F(Events, GiveEachWaiterWhatWasRecordedLast) {
  const c10::Stream first = stream_of(0);
  const c10::Stream second = stream_of(0);
  settle();
  on(a, [&] { x.fill_(1); });
  event.record(a);
  event.block(first);
  on(a, [&] { y.fill_(1); });
  event.record(a);
  event.block(second);
  on(second, [&] { (x + y).sum(); });
  on(first, [&] { x.sum(); });
  EXPECT_THAT(take_reports(), IsEmpty());
  on(first, [&] { y.sum(); });
  EXPECT_THAT(take_reports(), is_one("read-after-write"));
}

TEST_F(Events, OrderTheHostOnceTheyAreDone) {
  settle();
  configure({.query_delay = 2});
  on(a, [&] { x.fill_(1); });
  event.record(a);
  EXPECT_FALSE(event.query());
  on(b, [&] { x.sum(); });
  EXPECT_THAT(take_reports(), is_one("read-after-write"));
  EXPECT_FALSE(event.query());
  EXPECT_TRUE(event.query());
  configure({});
  on(b, [&] { x.sum(); });
  EXPECT_THAT(take_reports(), IsEmpty());
}

TEST_F(Events, OrderTheHostThatSynchronizes) {
  settle();
  on(a, [&] { x.fill_(1); });
  event.record(a);
  event.synchronize();
  on(b, [&] { x.sum(); });
  EXPECT_THAT(take_reports(), IsEmpty());
}

/// Why code for all devices can't use c10::Event alone.
TEST(CpuEvents, CanBeMadeButNotRecorded) {
  c10::Event event(c10::kCPU);
  const c10::Stream stream =
      c10::impl::VirtualGuardImpl(c10::kCPU).getStream(c10::kCPU);
  event.block(stream);
  EXPECT_TRUE(event.query());
  EXPECT_THROW(event.record(stream), c10::Error);
}

}  // namespace
}  // namespace ringweave::device::simulated
