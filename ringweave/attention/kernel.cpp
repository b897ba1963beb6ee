#include "ringweave/attention/kernel.h"

#include <optional>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include "ringweave/attention/composed_kernel.h"
#include "ringweave/attention/cpu_flash_kernel.h"
#include "ringweave/attention/efficient_kernel.h"
#include "ringweave/attention/flash_kernel.h"
#include "ringweave/base/error.h"

namespace ringweave::attention {
namespace {

using schedule::Area;
using Table = std::vector<std::shared_ptr<const Kernel>>;

/// In the order in which they are tried.
Table& table() {
  static Table table = {std::make_shared<const CpuFlashKernel>(),
                        std::make_shared<const FlashKernel>(),
                        std::make_shared<const EfficientKernel>(),
                        std::make_shared<const ComposedKernel>()};
  return table;
}

std::optional<KernelChoice> find_kernel(const TileKind& tile,
                                        const Area& area) {
  for (const auto& kernel : table()) {
    const Support support = kernel->supports(tile, area);
    if (support != Support::none) return KernelChoice{kernel.get(), support};
  }
  return std::nullopt;
}

}  // namespace

bool has_kernel(const TileKind& tile, const Area& area) {
  return find_kernel(tile, area).has_value();
}

KernelChoice choose_kernel(const TileKind& tile, const Area& area) {
  if (const auto found = find_kernel(tile, area)) return *found;
  std::vector<std::string> names;
  for (const auto& kernel : table()) names.push_back(kernel->name());
  throw InvalidArgument(fmt::format(
      "[attention] got {} on {}; want a type and a device that one "
      "of the kernels {} takes",
      c10::toString(tile.type), tile.device.str(), fmt::join(names, ", ")));
}

void add_kernel(std::shared_ptr<const Kernel> kernel) {
  table().insert(table().begin(), std::move(kernel));
}

}  // namespace ringweave::attention
