// The same bytes as a tensor of the device and as one of the CPU, whose kernels
// then do the work.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Storage.h>

namespace ringweave::device::simulated {

/// A storage of the CPU on the same bytes, that kernels may resize.
c10::Storage cpu_storage(const at::Tensor& tensor);

/// A tensor of the CPU on `storage`, the wrapped one of `tensor`.
at::Tensor as_cpu(const at::Tensor& tensor, c10::Storage storage);
/// `tensor` itself if it is one of the CPU.
at::Tensor as_cpu(const at::Tensor& tensor);

/// A tensor of the device with the shape and the type of `cpu`.
at::Tensor as_device(c10::Storage storage, const at::Tensor& cpu);
/// The same on the storage of `base`, of which it is a view.
at::Tensor as_view(const at::Tensor& base, const at::Tensor& cpu);

}  // namespace ringweave::device::simulated
