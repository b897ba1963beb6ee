#include "ringweave/device/simulated/cpu_call.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Context.h>
#include <ATen/core/List.h>

#include "ringweave/device/simulated/host_threads.h"
#include "ringweave/device/simulated/memory.h"
#include "ringweave/device/simulated/streams.h"
#include "ringweave/device/simulated/wrapping.h"

namespace ringweave::device::simulated {
namespace {

using at::Tensor;
using c10::IValue;
using OptionalTensors = c10::List<std::optional<Tensor>>;

/// A tensor of the device, and the one that the kernel sees.
struct Wrapped {
  Tensor device;
  Tensor cpu;
  bool written;
};

struct Use {
  Tensor tensor;
  bool writes;
};

c10::StorageImpl* storage_of(const Tensor& tensor) {
  return tensor.storage().unsafeGetStorageImpl();
}

class CpuCall {
 public:
  CpuCall(const c10::OperatorHandle& operation, torch::jit::Stack& stack)
      : schema_(operation.schema()), stack_(stack) {}

  void wrap_arguments();
  Operation record_accesses();
  /// `replaced` are the memories that written arguments had before.
  void unwrap_written(State& state, const Operation& operation,
                      std::vector<c10::DataPtr>& replaced);
  void unwrap_results(State& state, const Operation& operation);
  bool has_other_results() const { return other_results_; }

 private:
  IValue wrap(const c10::Argument& argument, const IValue& value);
  Tensor wrap(const Tensor& tensor, const c10::AliasInfo* alias);
  Tensor wrap_new(const Tensor& tensor, bool written);
  void check_foreign(const Tensor& tensor, bool written) const;
  void use_device(c10::Device device);
  IValue unwrap(State& state, const IValue& value, const Operation& operation);
  Tensor unwrap(State& state, const Tensor& tensor, const Operation& operation);

  const char* name() const { return schema_.name().c_str(); }

  const c10::FunctionSchema& schema_;
  torch::jit::Stack& stack_;
  std::vector<Wrapped> wrapped_;
  std::vector<Use> uses_;
  std::optional<c10::Device> device_;
  bool other_results_ = false;
};

void CpuCall::wrap_arguments() {
  const auto& arguments = schema_.arguments();
  const std::size_t first = stack_.size() - arguments.size();
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    IValue& value = stack_[first + i];
    value = wrap(arguments[i], value);
  }
  TORCH_CHECK(device_, name(), ": got no tensor of a simulated device");
}

IValue CpuCall::wrap(const c10::Argument& argument, const IValue& value) {
  const c10::AliasInfo* const alias = argument.alias_info();
  if (value.isTensor()) return wrap(value.toTensor(), alias);
  if (value.isTensorList()) {
    c10::List<Tensor> tensors;
    for (const Tensor& tensor : value.toTensorList()) {
      tensors.push_back(wrap(tensor, alias));
    }
    return tensors;
  }
  if (value.isOptionalTensorList()) {
    OptionalTensors tensors;
    for (const std::optional<Tensor>& tensor : value.toOptionalTensorList()) {
      tensors.push_back(tensor ? std::optional(wrap(*tensor, alias)) : tensor);
    }
    return tensors;
  }
  if (value.isDevice()) {
    const c10::Device device = value.toDevice();
    if (device.is_privateuseone()) use_device(with_index(device));
    return c10::Device(c10::kCPU);
  }
  if (value.isNone() && argument.name() == "generator") {
    return at::globalContext().defaultGenerator(
        device_.value_or(simulated::device(current_device())));
  }
  return value;
}

Tensor CpuCall::wrap(const Tensor& tensor, const c10::AliasInfo* alias) {
  if (!tensor.defined()) return tensor;
  const bool written = alias && alias->isWrite();
  if (!tensor.device().is_privateuseone()) {
    check_foreign(tensor, written);
    return tensor;
  }
  use_device(tensor.device());
  if (!alias || written) uses_.push_back({tensor, written});
  for (Wrapped& earlier : wrapped_) {
    if (!earlier.device.is_same(tensor)) continue;
    earlier.written |= written;
    return earlier.cpu;
  }
  return wrap_new(tensor, written);
}

/// Tensors that share a storage still do, so that kernels see them overlap.
Tensor CpuCall::wrap_new(const Tensor& tensor, bool written) {
  c10::Storage storage;
  for (const Wrapped& earlier : wrapped_) {
    if (storage_of(earlier.device) == storage_of(tensor)) {
      storage = earlier.cpu.storage();
    }
  }
  if (!storage) storage = cpu_storage(tensor);
  wrapped_.push_back({tensor, as_cpu(tensor, std::move(storage)), written});
  return wrapped_.back().cpu;
}

/// As on CUDA, single numbers and indices may lie on the CPU.
void CpuCall::check_foreign(const Tensor& tensor, bool written) const {
  const bool number = tensor.dim() == 0 && !written;
  const bool index = schema_.name().find("index") != std::string::npos;
  TORCH_CHECK(number || index, name(),
              ": expected all tensors to be on the same device, got one on ",
              tensor.device());
}

void CpuCall::use_device(c10::Device device) {
  if (!device_) device_ = device;
  TORCH_CHECK(*device_ == device, name(),
              ": expected all tensors to be on the same device, got ", *device_,
              " and ", device);
}

Operation CpuCall::record_accesses() {
  const LockedState state;
  const Operation operation = state->order.begin(
      current_actor(*state, *device_), this_host(*state), name());
  for (const Use& use : uses_) {
    access(*state, operation, use.tensor, use.writes);
  }
  return operation;
}

/// out= may have got other memory and another shape.
void CpuCall::unwrap_written(State& state, const Operation& operation,
                             std::vector<c10::DataPtr>& replaced) {
  for (const Wrapped& each : wrapped_) {
    if (!each.written) continue;
    c10::StorageImpl* const storage = storage_of(each.device);
    if (storage_of(each.cpu)->data() != storage->data()) {
      replaced.push_back(storage->set_data_ptr(
          adopt(state, each.cpu.storage(), *device_, operation)));
      storage->set_nbytes(storage_of(each.cpu)->nbytes());
    }
    if (each.cpu.sizes() != each.device.sizes() ||
        each.cpu.strides() != each.device.strides()) {
      each.device.unsafeGetTensorImpl()->set_sizes_and_strides(
          each.cpu.sizes(), each.cpu.strides(), each.cpu.storage_offset());
    }
  }
}

void CpuCall::unwrap_results(State& state, const Operation& operation) {
  const std::size_t first = stack_.size() - schema_.returns().size();
  for (std::size_t i = first; i < stack_.size(); ++i) {
    stack_[i] = unwrap(state, stack_[i], operation);
  }
}

IValue CpuCall::unwrap(State& state, const IValue& value,
                       const Operation& operation) {
  if (value.isTensor()) return unwrap(state, value.toTensor(), operation);
  if (value.isTensorList()) {
    c10::List<Tensor> tensors;
    for (const Tensor& tensor : value.toTensorList()) {
      tensors.push_back(unwrap(state, tensor, operation));
    }
    return tensors;
  }
  if (!value.isNone()) other_results_ = true;
  return value;
}

/// An argument, a view of one, or new memory.
Tensor CpuCall::unwrap(State& state, const Tensor& tensor,
                       const Operation& operation) {
  if (!tensor.defined()) return tensor;
  for (const Wrapped& each : wrapped_) {
    if (each.cpu.is_same(tensor)) return each.device;
  }
  for (const Wrapped& each : wrapped_) {
    if (storage_of(each.cpu) == storage_of(tensor)) {
      return as_view(each.device, tensor);
    }
  }
  return as_device(
      c10::Storage(c10::Storage::use_byte_size_t(), tensor.storage().nbytes(),
                   adopt(state, tensor.storage(), *device_, operation),
                   device_allocator(), true),
      tensor);
}

}  // namespace

void call_on_cpu(const c10::OperatorHandle& operation, torch::jit::Stack& stack,
                 const BoxedKernel& kernel, HostWaits host_waits) {
  CpuCall call(operation, stack);
  call.wrap_arguments();
  const Operation recorded = call.record_accesses();
  {
    const Unwatched inside;
    kernel(stack);
  }
  std::vector<c10::DataPtr> replaced;  // freed after the lock
  const LockedState state;
  call.unwrap_written(*state, recorded, replaced);
  call.unwrap_results(*state, recorded);
  if (host_waits == HostWaits::never) return;
  if (call.has_other_results() ||
      operation.hasTag(at::Tag::dynamic_output_shape) ||
      operation.hasTag(at::Tag::data_dependent_output)) {
    state->order.order(recorded.actor, this_host(*state));
  }
}

}  // namespace ringweave::device::simulated
