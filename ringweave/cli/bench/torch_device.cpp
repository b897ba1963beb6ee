#include "ringweave/cli/bench/torch_device.h"

#include <optional>

#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "ringweave/base/error.h"
#include "ringweave/device/torch_accelerator.h"

namespace ringweave::cli {
namespace {

/// Of the accelerator that this torch was built for and finds devices of.
std::optional<at::DeviceType> accelerator() {
  const auto kind = at::accelerator::getAccelerator();
  if (!kind || c10::impl::VirtualGuardImpl(*kind).deviceCount() == 0) return {};
  return kind;
}

std::string name(at::DeviceType kind) {
  return c10::DeviceTypeName(kind, /*lower_case=*/true);
}

}  // namespace

void check_torch_device(const std::string& kind) {
  if (kind == kHostDevice) return;
  const auto found = accelerator();
  if (found && kind == name(*found)) return;
  require(found.has_value(),
          "[bench] got --device {}; want cpu: this torch finds no accelerator",
          kind);
  throw InvalidArgument(fmt::format("[bench] got --device {}; want cpu or {}",
                                    kind, name(*found)));
}

at::Device torch_device_of(const std::string& kind, Rank rank) {
  if (kind == kHostDevice) return at::kCPU;
  const at::DeviceType type = accelerator().value();
  const int count = c10::impl::VirtualGuardImpl(type).deviceCount();
  return {type, static_cast<at::DeviceIndex>(rank % count)};
}

void wait_for_device(at::Device device) {
  if (const auto mark = device::mark(device::current_stream(device))) {
    mark->wait();
  }
}

}  // namespace ringweave::cli
