// How much memory the tensors that one thread makes take.
#pragma once

#include <cstdint>
#include <memory>

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

namespace ringweave::tensor {

/// While it lives, counts what this thread allocates and frees of tensors on
/// the host. Torch's memory profiler takes its place while it runs.
class Allocated {
 public:
  Allocated();

  /// Bytes taken since the start and not given back; may be negative.
  std::int64_t now() const { return count_->now; }
  /// The most since the start, or since reset_peak().
  std::int64_t peak() const { return count_->peak; }
  void reset_peak() { count_->peak = count_->now; }

 private:
  struct Count final : c10::MemoryReportingInfoBase {
    void reportMemoryUsage(void* data, std::int64_t bytes, std::size_t,
                           std::size_t, c10::Device device) override;
    bool memoryProfilingEnabled() const override { return true; }

    std::int64_t now = 0;
    std::int64_t peak = 0;
  };

  std::shared_ptr<Count> count_;
  c10::DebugInfoGuard guard_;
};

}  // namespace ringweave::tensor
