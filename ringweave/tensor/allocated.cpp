#include "ringweave/tensor/allocated.h"

#include <algorithm>

namespace ringweave::tensor {

Allocated::Allocated()
    : count_(std::make_shared<Count>()),
      guard_(c10::DebugInfoKind::PROFILER_STATE, count_) {}

void Allocated::Count::reportMemoryUsage(void*, std::int64_t bytes, std::size_t,
                                         std::size_t, c10::Device device) {
  if (!device.is_cpu()) return;
  now += bytes;
  peak = std::max(peak, now);
}

}  // namespace ringweave::tensor
