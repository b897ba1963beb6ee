// Devices, streams and events, as torch's guards see them.
#include <memory>
#include <utility>

#include <c10/core/impl/DeviceGuardImplInterface.h>

#include "ringweave/device/simulated/host_threads.h"
#include "ringweave/device/simulated/memory.h"
#include "ringweave/device/simulated/streams.h"

namespace ringweave::device::simulated {
namespace {

/// What an event holds since it was recorded last.
struct Recorded {
  Clock stream;
  /// Of the thread that recorded it: who has the event learnt of it from there.
  Clock host;
  int queries = 0;
};

Recorded& recorded(void* event) { return *static_cast<Recorded*>(event); }

/// The order that guards and events make between actors.
class DeviceGuard final : public c10::impl::DeviceGuardImplInterface {
 public:
  c10::DeviceType type() const override { return c10::DeviceType::PrivateUse1; }
  c10::DeviceIndex deviceCount() const noexcept override { return kDevices; }
  c10::Device getDevice() const override { return device(current_device()); }
  c10::Device exchangeDevice(c10::Device to) const override {
    return device(exchange_current_device(to.index()));
  }
  void setDevice(c10::Device to) const override {
    exchange_current_device(with_index(to).index());
  }
  void uncheckedSetDevice(c10::Device to) const noexcept override {
    exchange_current_device(to.index());
  }

  c10::Stream getStream(c10::Device of) const override {
    return current_stream(of);
  }
  c10::Stream getDefaultStream(c10::Device of) const override {
    return c10::Stream(c10::Stream::DEFAULT, with_index(of));
  }
  c10::Stream getStreamFromGlobalPool(c10::Device of, bool) const override {
    const LockedState state;
    return stream_from_pool(*state, of);
  }
  c10::Stream getNewStream(c10::Device of, int) const override {
    const LockedState state;
    return new_stream(*state, of);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    return exchange_current_stream(stream);
  }
  /// Nothing but a number that no other stream has.
  void* getStreamNativeHandle(c10::Stream stream) const override {
    const LockedState state;
    return reinterpret_cast<void*>(std::intptr_t{1} + actor_of(*state, stream));
  }

  void record(void** event, const c10::Stream& stream, c10::DeviceIndex,
              c10::EventFlag) const override;
  void block(void* event, const c10::Stream& stream) const override;
  bool queryEvent(void* event) const override;
  void synchronizeEvent(void* event) const override;
  void destroyEvent(void* event, c10::DeviceIndex) const noexcept override {
    delete static_cast<Recorded*>(event);
  }
  double elapsedTime(void*, void*, c10::DeviceIndex) const override {
    return 0;
  }

  /// Streams are always done, so that the answer orders the host.
  bool queryStream(const c10::Stream& stream) const override {
    synchronizeStream(stream);
    return true;
  }
  void synchronizeStream(const c10::Stream& stream) const override;
  void synchronizeDevice(c10::DeviceIndex index) const override;
  void recordDataPtrOnStream(const c10::DataPtr& data,
                             const c10::Stream& stream) const override;
};

void DeviceGuard::record(void** event, const c10::Stream& stream,
                         c10::DeviceIndex, c10::EventFlag) const {
  const LockedState state;
  const ActorId host = this_host(*state);
  const ActorId actor = actor_of(*state, stream);
  state->order.order(host, actor);
  if (!*event) *event = new Recorded;
  recorded(*event) = {.stream = state->order.clock(actor),
                      .host = state->order.clock(host)};
}

void DeviceGuard::block(void* event, const c10::Stream& stream) const {
  const LockedState state;
  join(state->order.clock(this_host(*state)), recorded(event).host);
  join(state->order.clock(actor_of(*state, stream)), recorded(event).stream);
}

bool DeviceGuard::queryEvent(void* event) const {
  const LockedState state;
  Recorded& asked = recorded(event);
  const bool done = asked.queries++ >= state->settings.query_delay;
  join(state->order.clock(this_host(*state)), done ? asked.stream : asked.host);
  return done;
}

void DeviceGuard::synchronizeEvent(void* event) const {
  const LockedState state;
  join(state->order.clock(this_host(*state)), recorded(event).stream);
}

void DeviceGuard::synchronizeStream(const c10::Stream& stream) const {
  const LockedState state;
  state->order.order(actor_of(*state, stream), this_host(*state));
}

void DeviceGuard::synchronizeDevice(c10::DeviceIndex index) const {
  const LockedState state;
  const c10::Device exact = with_index(device(index));
  for (const ActorId actor : state->streams.at(exact.index())) {
    if (actor >= 0) state->order.order(actor, this_host(*state));
  }
}

void DeviceGuard::recordDataPtrOnStream(const c10::DataPtr& data,
                                        const c10::Stream& stream) const {
  const LockedState state;
  if (Block* const block = block_of(data)) {
    block->recorded.push_back(actor_of(*state, stream));
  }
}

C10_REGISTER_GUARD_IMPL(PrivateUse1, DeviceGuard)

}  // namespace
}  // namespace ringweave::device::simulated
