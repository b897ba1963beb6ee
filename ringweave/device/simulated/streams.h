// The current device and the current streams of a thread, and the actors that
// streams are.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/Stream.h>

#include "ringweave/device/simulated/state.h"

namespace ringweave::device::simulated {

c10::DeviceIndex current_device();
/// Returns the one before. Throws for a device that does not exist.
c10::DeviceIndex exchange_current_device(c10::DeviceIndex index);

/// `device`, or the current one if it has no index. Throws for a device that
/// does not exist.
c10::Device with_index(c10::Device device);

/// The thread's current stream of a device.
c10::Stream current_stream(c10::Device device);
c10::Stream exchange_current_stream(c10::Stream stream);

/// As on CUDA one of 32 in turn, so that two may be the same.
c10::Stream stream_from_pool(State& state, c10::Device device);
/// One that nobody else has.
c10::Stream new_stream(State& state, c10::Device device);

ActorId actor_of(State& state, c10::Stream stream);
inline ActorId current_actor(State& state, c10::Device device) {
  return actor_of(state, current_stream(device));
}

}  // namespace ringweave::device::simulated
