// torch's operations on the device: a fallback to the CPU's kernels for nearly
// all, and kernels of our own for what allocates, views, copies or waits.
#include <optional>

#include <ATen/EmptyTensor.h>
#include <ATen/NativeFunctions.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/native/Resize.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include "ringweave/device/simulated/cpu_call.h"
#include "ringweave/device/simulated/host_threads.h"
#include "ringweave/device/simulated/memory.h"
#include "ringweave/device/simulated/streams.h"
#include "ringweave/device/simulated/wrapping.h"

namespace ringweave::device::simulated {
namespace {

using at::Tensor;

constexpr c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);

void fallback(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
  call_on_cpu(
      operation, *stack,
      [&](torch::jit::Stack& arguments) {
        operation.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU),
                                  &arguments);
      },
      HostWaits::for_results);
}

Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> type,
             std::optional<at::Layout>, std::optional<c10::Device> device,
             std::optional<bool>, std::optional<at::MemoryFormat> format) {
  const c10::DeviceGuard guard(c10::device_or_default(device));
  return at::detail::empty_generic(size, device_allocator(), kKeys,
                                   c10::dtype_or_default(type), format);
}

Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride,
                     std::optional<at::ScalarType> type,
                     std::optional<at::Layout>,
                     std::optional<c10::Device> device, std::optional<bool>) {
  const c10::DeviceGuard guard(c10::device_or_default(device));
  return at::detail::empty_strided_generic(size, stride, device_allocator(),
                                           kKeys, c10::dtype_or_default(type));
}

const Tensor& resize_(const Tensor& self, at::IntArrayRef size,
                      std::optional<at::MemoryFormat> format) {
  const c10::DeviceGuard guard(self.device());
  return at::native::resize_(self, size, format);
}

/// As CUDA does it: a copy between devices runs on the current stream of the
/// source's, after what the current stream of the destination's has, which
/// then waits for the copy. Both are those of the calling thread.
void record_copy(const Tensor& from, const Tensor& to, bool non_blocking) {
  const bool reads_device = from.device().is_privateuseone();
  const bool writes_device = to.device().is_privateuseone();
  const LockedState state;
  HappensBefore& order = state->order;
  const ActorId host = this_host(*state);
  const ActorId copier =
      current_actor(*state, (reads_device ? from : to).device());
  const ActorId destination =
      current_actor(*state, (writes_device ? to : from).device());
  order.order(destination, copier);
  const Operation copy = order.begin(copier, host, "aten::copy_");
  access(*state, copy, from, false);
  access(*state, copy, to, true);
  order.order(copier, destination);
  const bool between_devices = reads_device && writes_device;
  if (!between_devices && !non_blocking) order.order(copier, host);
}

Tensor copy_from(const Tensor& from, const Tensor& to, bool non_blocking) {
  if (!Unwatched::now()) record_copy(from, to, non_blocking);
  const Unwatched inside;
  as_cpu(to).copy_(as_cpu(from));
  return to;
}

/// item(): the host waits for the number.
at::Scalar local_scalar(const Tensor& self) {
  if (!Unwatched::now()) {
    const LockedState state;
    const ActorId host = this_host(*state);
    const Operation read =
        state->order.begin(current_actor(*state, self.device()), host,
                           "aten::_local_scalar_dense");
    access(*state, read, self, false);
    state->order.order(read.actor, host);
  }
  const Unwatched inside;
  return at::native::_local_scalar_dense_cpu(as_cpu(self));
}

void record_stream(Tensor& self, c10::Stream stream) {
  const LockedState state;
  if (Block* const block = block_of(self)) {
    block->recorded.push_back(actor_of(*state, stream));
  }
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", empty);
  library.impl("empty_strided", empty_strided);
  library.impl("as_strided", at::native::as_strided_tensorimpl);
  library.impl("view", at::native::view);
  library.impl("_reshape_alias", at::native::_reshape_alias);
  library.impl("resize_", resize_);
  library.impl("set_.source_Storage", at::native::set_);
  library.impl("set_.source_Storage_storage_offset",
               at::native::set_storage_cpu_);
  library.impl("set_.source_Tensor", at::native::set_tensor_);
  library.impl("_copy_from", copy_from);
  library.impl("_local_scalar_dense", local_scalar);
  library.impl("record_stream", record_stream);
}

/// The fallbacks of these keys clone, which copies, which comes back to them.
TORCH_LIBRARY_IMPL(aten, Conjugate, library) {
  library.impl("_copy_from", torch::CppFunction::makeFallthrough());
}
TORCH_LIBRARY_IMPL(aten, Negative, library) {
  library.impl("_copy_from", torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

}  // namespace
}  // namespace ringweave::device::simulated
