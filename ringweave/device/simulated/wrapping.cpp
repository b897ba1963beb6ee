#include "ringweave/device/simulated/wrapping.h"

#include <utility>

#include <ATen/core/TensorBase.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/TensorImpl.h>
#include <c10/util/Exception.h>

namespace ringweave::device::simulated {
namespace {

using c10::DispatchKey;
using c10::DispatchKeySet;
using c10::TensorImpl;

at::Tensor with_geometry_of(const at::Tensor& like, at::Tensor tensor) {
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(
      like.sizes(), like.strides(), like.storage_offset());
  return tensor;
}

}  // namespace

/// Not by from_blob(): its storages can't be resized.
c10::Storage cpu_storage(const at::Tensor& tensor) {
  void* const data = const_cast<void*>(tensor.storage().data());
  return {c10::Storage::use_byte_size_t(), tensor.storage().nbytes(),
          c10::DataPtr(data, c10::kCPU), c10::GetCPUAllocator(), true};
}

at::Tensor as_cpu(const at::Tensor& tensor, c10::Storage storage) {
  TORCH_CHECK(tensor.layout() == c10::kStrided,
              "[simulated] got a tensor that is not strided");
  at::Tensor cpu = with_geometry_of(
      tensor, at::detail::make_tensor<TensorImpl>(
                  std::move(storage), DispatchKeySet(DispatchKey::CPU),
                  tensor.dtype()));
  if (tensor.is_conj()) cpu._set_conj(true);
  if (tensor.is_neg()) cpu._set_neg(true);
  return cpu;
}

at::Tensor as_cpu(const at::Tensor& tensor) {
  if (!tensor.device().is_privateuseone()) return tensor;
  return as_cpu(tensor, cpu_storage(tensor));
}

at::Tensor as_device(c10::Storage storage, const at::Tensor& cpu) {
  return with_geometry_of(
      cpu, at::detail::make_tensor<TensorImpl>(
               std::move(storage), DispatchKeySet(DispatchKey::PrivateUse1),
               cpu.dtype()));
}

/// With all keys of the base: with the backend's alone it would be a tensor
/// without a version counter, which autograd refuses.
at::Tensor as_view(const at::Tensor& base, const at::Tensor& cpu) {
  return with_geometry_of(
      cpu, at::detail::make_tensor<TensorImpl>(TensorImpl::VIEW,
                                               c10::Storage(base.storage()),
                                               base.key_set(), cpu.dtype()));
}

}  // namespace ringweave::device::simulated
