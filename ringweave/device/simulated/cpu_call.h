// One operation on tensors of the device, done by a kernel of the CPU.
//
// Its accesses are what the schema says: an argument is read, or written where
// it is annotated so, and results are written. Views are no accesses. The
// kernel itself sees tensors of the CPU on the same bytes; what it allocates
// becomes memory of the device without a copy.
#pragma once

#include <functional>

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

namespace ringweave::device::simulated {

using BoxedKernel = std::function<void(torch::jit::Stack&)>;

enum class HostWaits {
  never,
  /// As on CUDA: if a result's shape depends on values, or is no tensor.
  for_results
};

/// Runs `kernel` on the arguments of `operation` that are on the stack, on the
/// current stream of their device.
void call_on_cpu(const c10::OperatorHandle& operation, torch::jit::Stack& stack,
                 const BoxedKernel& kernel, HostWaits host_waits);

}  // namespace ringweave::device::simulated
