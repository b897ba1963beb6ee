#include "ringweave/attention/kernel.h"

#include <vector>

#include <ATen/ATen.h>

#include "ringweave/attention/cpu_flash_kernel.h"
#include "ringweave/base/error.h"

namespace ringweave::attention {
namespace {

using Table = std::vector<std::shared_ptr<const Kernel>>;

/// In the order in which they are tried.
Table& table() {
  static Table table = {std::make_shared<const CpuFlashKernel>()};
  return table;
}

}  // namespace

KernelChoice choose_kernel(at::Device device, at::ScalarType type,
                           const schedule::Area& area) {
  for (const auto& kernel : table()) {
    const Support support = kernel->supports(device, type, area);
    if (support != Support::none) return {kernel.get(), support};
  }
  throw InvalidArgument(fmt::format(
      "[attention] got {} on {}, for which there is no kernel; want float64, "
      "float32 or bfloat16 on the CPU",
      c10::toString(type), device.str()));
}

void add_kernel(std::shared_ptr<const Kernel> kernel) {
  table().insert(table().begin(), std::move(kernel));
}

}  // namespace ringweave::attention
