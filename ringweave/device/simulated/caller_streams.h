// For tests: calls on several streams of a device, and what nothing orders.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <sstream>
#include <string>

#include <ATen/core/Tensor.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <gtest/gtest.h>

#include "ringweave/device/accelerator.h"
#include "ringweave/device/ordering.h"
#include "ringweave/device/simulated/simulated.h"
#include "ringweave/device/torch_accelerator.h"

namespace ringweave::device {

/// Makes streams current, one after the other, as a caller does who uses
/// several.
class CallerStreams {
 public:
  CallerStreams(at::Device device, std::uint64_t seed)
      : guard_(c10::impl::VirtualGuardImpl(device.type()).getStream(device)),
        device_(device),
        random_(static_cast<std::minstd_rand::result_type>(seed)) {}
  ~CallerStreams() { mark(current_stream(device_))->wait(); }
  CallerStreams(const CallerStreams&) = delete;
  CallerStreams& operator=(const CallerStreams&) = delete;

  /// The device's default stream or one of its pool, by chance, which waits for
  /// the one before.
  void next() {
    const Stream before = current_stream(device_);
    unordered();
    mark(before)->block(current_stream(device_));
  }

  /// The same, but it waits for nothing, as for work that has nothing to do
  /// with what was before.
  void unordered() {
    const c10::impl::VirtualGuardImpl streams(device_.type());
    guard_.reset_stream(random_() % 3 == 0
                            ? streams.getDefaultStream(device_)
                            : streams.getStreamFromGlobalPool(device_));
  }

 private:
  c10::StreamGuard guard_;
  at::Device device_;
  std::minstd_rand random_;
};

/// Success unless the simulated device has found accesses that nothing orders
/// since the last call.
inline testing::AssertionResult all_ordered() {
  std::ostringstream text;
  int count = 0;
  for (const simulated::Report& report : simulated::take_reports()) {
    if (++count <= 5) text << "\n  " << report.text();
  }
  if (count == 0) return testing::AssertionSuccess();
  return testing::AssertionFailure() << count << " reports:" << text.str();
}

/// Watches the ordering calls of its scope.
class WatchedOrdering {
 public:
  /// `dropped` is left out.
  explicit WatchedOrdering(std::optional<OrderingCall> dropped) {
    watch_.dropped = dropped;
    watch_ordering(&watch_);
  }
  ~WatchedOrdering() { watch_ordering(nullptr); }
  WatchedOrdering(const WatchedOrdering&) = delete;
  WatchedOrdering& operator=(const WatchedOrdering&) = delete;

  std::int64_t count(OrderingCall call) const { return watch_.count(call); }

 private:
  OrderingWatch watch_;
};

/// Whether the simulated device reports anything of work(seed) without `call`,
/// of some seeds: streams by chance may order what the call would.
template <typename Work>
bool reported_without(OrderingCall call, const Work& work) {
  bool reported = false;
  for (std::uint64_t seed = 0; seed < 10 && !reported; ++seed) {
    const WatchedOrdering watched(call);
    work(seed);
    reported = !simulated::take_reports().empty();
  }
  simulated::settle();
  return reported;
}

}  // namespace ringweave::device
