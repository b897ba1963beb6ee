// A C++ function on tensors of the CPU as a kernel of the device.
#pragma once

#include <cstddef>

#include <ATen/core/boxing/KernelFunction.h>

#include "ringweave/device/simulated/cpu_call.h"

namespace ringweave::device::simulated {

template <typename Result, typename... Arguments>
constexpr std::size_t arity(Result (*)(Arguments...)) {
  return sizeof...(Arguments);
}

/// The boxed kernel that calls `function`, which gets tensors of the CPU in
/// place of those of the device. The host does not wait for it. Last arguments
/// that the schema of an older torch lacks are none.
template <auto* function>
void on_device(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
  static const auto kernel =
      c10::KernelFunction::makeFromUnboxedFunction(TORCH_FN(function));
  call_on_cpu(
      operation, *stack,
      [&](torch::jit::Stack& arguments) {
        const std::size_t known = operation.schema().arguments().size();
        if (known < arity(function)) {
          arguments.resize(arguments.size() + arity(function) - known);
        }
        kernel.callBoxed(operation, c10::DispatchKeySet(c10::DispatchKey::CPU),
                         &arguments);
      },
      HostWaits::never);
}

}  // namespace ringweave::device::simulated
