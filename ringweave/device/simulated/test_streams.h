// Streams of the simulated device, for its tests.
#pragma once

#include <utility>

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/device/simulated/simulated.h"

namespace ringweave::device::simulated {

constexpr auto kType = c10::DeviceType::PrivateUse1;

inline c10::impl::VirtualGuardImpl guards() {
  return c10::impl::VirtualGuardImpl(kType);
}

inline c10::Stream stream_of(int index) {
  return guards().getStreamFromGlobalPool(device(index));
}

/// Runs `function` with `stream` as the current one.
template <typename Function>
void on(c10::Stream stream, Function&& function) {
  const c10::StreamGuard guard(stream);
  std::forward<Function>(function)();
}

inline void wait_for(c10::Stream waiter, c10::Stream other) {
  c10::Event event(kType);
  event.record(other);
  event.block(waiter);
}

/// Of take_reports(): one, of this kind.
inline auto is_one(const char* kind) {
  return testing::ElementsAre(testing::Field(&Report::kind, kind));
}

/// Two streams of sim:0, and a tensor there that they use.
class TwoStreams : public testing::Test {
 protected:
  TwoStreams() { settle(); }

  const c10::Stream a = stream_of(0);
  const c10::Stream b = stream_of(0);
  const at::Tensor x = at::zeros({4}, device(0));
};

}  // namespace ringweave::device::simulated
