#include "ringweave/device/simulated/host_accesses.h"

#include <algorithm>
#include <string>

#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include "ringweave/device/simulated/host_threads.h"
#include "ringweave/device/simulated/memory.h"

namespace ringweave::device::simulated {
namespace {

/// A key that torch leaves to tests, above all others: what a thread calls goes
/// by it while the thread includes it. at::RecordFunction would tell the same,
/// but has another layout in programs built with assertions than in torch's
/// wheels, where its inputs are then read from the wrong place.
constexpr auto kWatch = c10::DispatchKey::TESTING_ONLY_GenericMode;

using Values = c10::ArrayRef<c10::IValue>;

bool touches_device(Values arguments) {
  return std::any_of(
      arguments.begin(), arguments.end(), [](const c10::IValue& value) {
        return value.isTensor() && value.toTensor().is_privateuseone();
      });
}

/// Only kernels of the CPU touch memory: other operations call some. copy_() is
/// the exception; _copy_from() sees to copies from and to the device.
bool touches_memory(const c10::OperatorHandle& operation, Values arguments) {
  const std::string& name = operation.schema().name();
  if (name == "aten::copy_") return !touches_device(arguments);
  if (name == "aten::set_" || name == "aten::resize_") return false;
  return operation.hasKernelForDispatchKey(c10::DispatchKey::CPU);
}

void access_by_host(const at::Tensor& tensor, const c10::AliasInfo* alias,
                    const char* name) {
  const bool writes = alias && alias->isWrite();
  if (alias && !writes) return;  // a view
  if (!tensor.defined() || !tensor.is_cpu() || !block_of(tensor)) return;
  host_access(tensor, writes, name);
}

void record_accesses(const c10::FunctionSchema& schema, Values arguments) {
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const c10::IValue& value = arguments[i];
    const c10::AliasInfo* const alias = schema.arguments()[i].alias_info();
    if (value.isTensor()) {
      access_by_host(value.toTensor(), alias, schema.name().c_str());
    } else if (value.isTensorList()) {
      for (const at::Tensor& tensor : value.toTensorList()) {
        access_by_host(tensor, alias, schema.name().c_str());
      }
    }
  }
}

void watch(const c10::OperatorHandle& operation, c10::DispatchKeySet keys,
           torch::jit::Stack* stack) {
  const c10::FunctionSchema& schema = operation.schema();
  const Values arguments = torch::jit::last(*stack, schema.arguments().size());
  if (!Unwatched::now() && touches_memory(operation, arguments)) {
    record_accesses(schema, arguments);
  }
  operation.redispatchBoxed(
      keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, kWatch),
      stack);
}

TORCH_LIBRARY_IMPL(_, TESTING_ONLY_GenericMode, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&watch>());
}

}  // namespace

void watch_this_thread(bool on) {
  c10::impl::tls_set_dispatch_key_included(kWatch, on);
}

void watch_host(bool on) {
  {
    const LockedState state;
    state->watches_host = on;
  }
  watch_this_thread(on);
}

void host_access(const at::Tensor& tensor, bool writes, const char* operation) {
  const LockedState state;
  const ActorId host = this_host(*state);
  access(*state, state->order.begin(host, host, operation), tensor, writes);
}

Clock host_release() {
  const LockedState state;
  return state->order.clock(this_host(*state));
}

void host_acquire(const Clock& clock) {
  const LockedState state;
  join(state->order.clock(this_host(*state)), clock);
}

}  // namespace ringweave::device::simulated
