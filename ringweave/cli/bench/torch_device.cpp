#include "ringweave/cli/bench/torch_device.h"

#include <optional>

#include <ATen/ATen.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#include "ringweave/base/error.h"
#include "ringweave/device/torch_accelerator.h"

namespace ringweave::cli {
namespace {

/// Devices of a kind that torch finds; 0 for one that it was not built for.
int device_count(at::DeviceType kind) {
  return c10::impl::hasDeviceGuardImpl(kind)
             ? c10::impl::VirtualGuardImpl(kind).deviceCount()
             : 0;
}

/// nullopt: torch knows no such kind.
std::optional<at::DeviceType> kind_of(const std::string& name) {
  try {
    const at::Device device(name);
    if (!device.has_index()) return device.type();
  } catch (const c10::Error&) {  // answered by nullopt
  }
  return std::nullopt;
}

}  // namespace

void check_torch_device(const std::string& kind) {
  const auto type = kind_of(kind);
  require(type.has_value(),
          "[bench] got --device {}; want cpu, or a kind of accelerator that "
          "torch knows, such as cuda, without a number",
          kind);
  require(*type == at::kCPU || device_count(*type) > 0,
          "[bench] got --device {}, of which this torch finds none; want cpu, "
          "or a device that is there",
          kind);
}

at::Device torch_device_of(const std::string& kind, Rank rank) {
  const at::DeviceType type = kind_of(kind).value();
  if (type == at::kCPU) return at::kCPU;
  return {type, static_cast<at::DeviceIndex>(rank % device_count(type))};
}

void wait_for_device(at::Device device) {
  if (const auto mark = device::mark(device::current_stream(device))) {
    mark->wait();
  }
}

}  // namespace ringweave::cli
