// What torch asks of a backend beside its guards: pinned memory, generators,
// which device is current. Here the backend gets its name.
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Generator.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/Resize.h>

#include "ringweave/device/simulated/memory.h"
#include "ringweave/device/simulated/streams.h"

namespace ringweave::device::simulated {
namespace {

class Hooks final : public at::PrivateUse1HooksInterface {
 public:
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  /// Autograd orders the gradients' streams only on devices that have one.
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }

  c10::DeviceIndex deviceCount() const override { return kDevices; }
  c10::DeviceIndex getCurrentDevice() const override {
    return current_device();
  }
  void setCurrentDevice(c10::DeviceIndex index) const override {
    exchange_current_device(index);
  }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex index) const override {
    return exchange_current_device(index);
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex index) const override {
    return exchange_current_device(index);
  }

  /// The CPU's kernels take the CPU's generators only. One for each device:
  /// ranks, each a thread with a device, must not share any.
  const at::Generator& getDefaultGenerator(
      c10::DeviceIndex index) const override {
    static const auto* const generators = [] {
      auto* const all = new std::vector<at::Generator>;
      for (int i = 0; i < kDevices; ++i) {
        all->push_back(at::detail::createCPUGenerator());
      }
      return all;
    }();
    return generators->at(with_index(device(index)).index());
  }
  at::Generator getNewGenerator(c10::DeviceIndex) const override {
    return at::detail::createCPUGenerator();
  }

  bool isPinnedPtr(const void* data) const override { return is_pinned(data); }
  c10::Allocator* getPinnedMemoryAllocator() const override {
    return pinned_allocator();
  }
  /// resize_bytes_nocuda() would call this again, without end.
  void resizePrivateUse1Bytes(const c10::Storage& storage,
                              std::size_t size) const override {
    at::native::resize_bytes_cpu(storage.unsafeGetStorageImpl(), size);
  }
};

[[maybe_unused]] const bool kRegistered = [] {
  c10::register_privateuse1_backend("sim");
  c10::SetAllocator(c10::DeviceType::PrivateUse1, device_allocator());
  at::RegisterPrivateUse1HooksInterface(new Hooks);
  return true;
}();

}  // namespace
}  // namespace ringweave::device::simulated
