#include "ringweave/attention/kernel.h"

#include <optional>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include "ringweave/attention/cpu_flash_kernel.h"
#include "ringweave/base/error.h"

namespace ringweave::attention {
namespace {

using schedule::Area;
using Table = std::vector<std::shared_ptr<const Kernel>>;

/// In the order in which they are tried.
Table& table() {
  static Table table = {std::make_shared<const CpuFlashKernel>()};
  return table;
}

std::optional<KernelChoice> find_kernel(at::Device device, at::ScalarType type,
                                        const Area& area) {
  for (const auto& kernel : table()) {
    const Support support = kernel->supports(device, type, area);
    if (support != Support::none) return KernelChoice{kernel.get(), support};
  }
  return std::nullopt;
}

}  // namespace

bool has_kernel(at::Device device, at::ScalarType type, const Area& area) {
  return find_kernel(device, type, area).has_value();
}

KernelChoice choose_kernel(at::Device device, at::ScalarType type,
                           const Area& area) {
  if (const auto found = find_kernel(device, type, area)) return *found;
  std::vector<std::string> names;
  for (const auto& kernel : table()) names.push_back(kernel->name());
  throw InvalidArgument(
      fmt::format("[attention] got {} on {}; want a type and a device that one "
                  "of the kernels {} takes",
                  c10::toString(type), device.str(), fmt::join(names, ", ")));
}

void add_kernel(std::shared_ptr<const Kernel> kernel) {
  table().insert(table().begin(), std::move(kernel));
}

}  // namespace ringweave::attention
