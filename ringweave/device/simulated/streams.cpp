#include "ringweave/device/simulated/streams.h"

#include <utility>

#include <c10/util/Exception.h>
#include <fmt/format.h>

namespace ringweave::device::simulated {
namespace {

/// Streams have the ids 0 (the default one), 1 … kPool, and what follows.
constexpr c10::StreamId kPool = 32;

thread_local c10::DeviceIndex t_device = 0;
thread_local std::array<c10::StreamId, kDevices> t_streams = {};

void check_device(c10::Device device) {
  TORCH_CHECK(device.is_privateuseone() && device.index() < kDevices,
              "[simulated] got device ", device,
              "; want sim:0 … sim:", kDevices - 1);
}

void check_stream(c10::Stream stream) {
  check_device(stream.device());
  TORCH_CHECK(stream.device().has_index() && stream.id() >= 0,
              "[simulated] got stream ", stream.id(), " of ", stream.device());
}

c10::Stream stream_of(c10::Device device, c10::StreamId id) {
  return c10::Stream(c10::Stream::UNSAFE, device, id);
}

}  // namespace

c10::DeviceIndex current_device() { return t_device; }

c10::DeviceIndex exchange_current_device(c10::DeviceIndex index) {
  check_device(device(index));
  return index < 0 ? t_device : std::exchange(t_device, index);
}

c10::Device with_index(c10::Device device) {
  check_device(device);
  return device.has_index() ? device : simulated::device(t_device);
}

c10::Stream current_stream(c10::Device device) {
  const c10::Device exact = with_index(device);
  return stream_of(exact, t_streams.at(exact.index()));
}

c10::Stream exchange_current_stream(c10::Stream stream) {
  check_stream(stream);
  return stream_of(
      stream.device(),
      std::exchange(t_streams.at(stream.device_index()), stream.id()));
}

c10::Stream stream_from_pool(State& state, c10::Device device) {
  const c10::Device exact = with_index(device);
  return stream_of(exact, 1 + state.pooled.at(exact.index())++ % kPool);
}

c10::Stream new_stream(State& state, c10::Device device) {
  const c10::Device exact = with_index(device);
  return stream_of(exact, 1 + kPool + state.made.at(exact.index())++);
}

ActorId actor_of(State& state, c10::Stream stream) {
  check_stream(stream);
  std::vector<ActorId>& actors = state.streams.at(stream.device_index());
  const auto id = static_cast<std::size_t>(stream.id());
  if (actors.size() <= id) actors.resize(id + 1, -1);
  if (actors[id] < 0) {
    actors[id] = state.order.add_stream(
        fmt::format("{}/s{}", stream.device().str(), id));
  }
  return actors[id];
}

}  // namespace ringweave::device::simulated
