#include "ringweave/device/torch_accelerator.h"

#include <mutex>
#include <optional>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "ringweave/base/error.h"
#include "ringweave/device/ordering.h"
#include "ringweave/device/tensor_buffer.h"

namespace ringweave::device {
namespace {

class EventMark final : public Mark {
 public:
  explicit EventMark(const c10::Stream& stream) : event_(stream.device_type()) {
    event_.record(stream);
  }
  void block(const Stream& stream) const override {
    event_.block(torch_stream(stream));
  }
  bool passed() const override { return event_.query(); }
  void wait() const override { event_.synchronize(); }

 private:
  c10::Event event_;
};

/// Sets this thread's current stream of a device, and the device.
class CurrentStream {
 public:
  CurrentStream(const Stream& stream, OrderingCall call) {
    if (is_made(call)) guard_.emplace(torch_stream(stream));
  }

 private:
  std::optional<c10::StreamGuard> guard_;
};

/// A copy between two devices of one kind runs on the current stream of the
/// source, behind that of the target, which then waits for it: so both currents
/// are set to the lane's own, that of the source last, as a guard also sets the
/// current device.
class TorchLane final : public CopyLane {
 public:
  TorchLane(const Device& from, const Device& to)
      : from_(pooled(from)), to_(from == to ? from_ : pooled(to)) {}

  SharedMark copy(const Buffer& from, const Mark& ready, const Buffer& to,
                  const Mark& free) override {
    ensure(from.size == to.size, "a copy of {} bytes to {}", from.size,
           to.size);
    const std::lock_guard lock(mutex_);
    block(ready, from_, OrderingCall::copy_behind_bytes);
    block(free, to_, OrderingCall::copy_behind_target);
    const CurrentStream target(to_, OrderingCall::copy_on_target_lane);
    const CurrentStream source(from_, OrderingCall::copy_on_source_lane);
    tensor_of(to).copy_(tensor_of(from), /*non_blocking=*/true);
    return mark(from_);
  }

 private:
  static Stream pooled(const Device& device) {
    const at::Device it = torch_device(device);
    const c10::impl::VirtualGuardImpl guard(it.type());
    return {device, guard.getStreamFromGlobalPool(it).id()};
  }

  std::mutex mutex_;
  const Stream from_, to_;
};

class TorchAccelerator final : public Accelerator {
 public:
  explicit TorchAccelerator(at::DeviceType kind) : kind_(kind) {}
  at::DeviceType kind() const { return kind_; }

  Buffer allocate(std::size_t bytes, const Stream& stream) const override {
    const c10::StreamGuard guard(torch_stream(stream));
    return buffer_of(at::empty(
        {static_cast<std::int64_t>(bytes)},
        at::TensorOptions(at::kByte).device(torch_device(stream.device))));
  }
  SharedMark mark(const Stream& stream) const override {
    return std::make_shared<const EventMark>(torch_stream(stream));
  }
  std::unique_ptr<CopyLane> lane(const Device& from,
                                 const Device& to) const override {
    return std::make_unique<TorchLane>(from, to);
  }

 private:
  at::DeviceType kind_;
};

}  // namespace

const Accelerator& torch_accelerator(at::DeviceType kind) {
  static const auto all = [] {
    std::vector<TorchAccelerator> all;
    for (int i = 0; i < at::COMPILE_TIME_MAX_DEVICE_TYPES; ++i) {
      all.emplace_back(static_cast<at::DeviceType>(i));
    }
    return all;
  }();
  return all.at(static_cast<std::size_t>(kind));
}

Device from_torch(at::Device device) {
  if (device.is_cpu()) return {};
  return {&torch_accelerator(device.type()), device.index()};
}

at::Device torch_device(const Device& device) {
  if (device.is_host()) return at::kCPU;
  const auto& of = static_cast<const TorchAccelerator&>(*device.accelerator);
  return {of.kind(), static_cast<at::DeviceIndex>(device.index)};
}

bool computes(at::Device device) {
  return device.is_cpu() ||
         (!device.is_meta() && c10::impl::hasDeviceGuardImpl(device.type()));
}

Stream current_stream(at::Device device) {
  if (device.is_cpu()) return {};
  const c10::impl::VirtualGuardImpl guard(device.type());
  return {from_torch(device), guard.getStream(device).id()};
}

c10::Stream torch_stream(const Stream& stream) {
  return c10::Stream(c10::Stream::UNSAFE, torch_device(stream.device),
                     stream.id);
}

}  // namespace ringweave::device
