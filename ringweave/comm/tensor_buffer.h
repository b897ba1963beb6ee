// Tensors as buffers and buffers as tensors, for those who have libtorch: comm
// itself does without.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>

#include "ringweave/comm/buffer.h"

namespace ringweave::comm {

/// torch has at most one kind of accelerator at a time, so an index tells
/// which.
inline Device buffer_device(const at::Tensor& tensor) {
  if (tensor.is_cpu()) return {};
  return {Device::Kind::accelerator, tensor.device().index()};
}

inline at::Device torch_device(const Device& device) {
  if (device.kind == Device::Kind::cpu) return at::kCPU;
  return {at::accelerator::getAccelerator(/*checked=*/true).value(),
          static_cast<at::DeviceIndex>(device.index)};
}

/// The memory of a contiguous tensor, which it keeps alive.
inline Buffer buffer_of(const at::Tensor& tensor) {
  return {.data = static_cast<std::byte*>(tensor.data_ptr()),
          .size = tensor.nbytes(),
          .device = buffer_device(tensor),
          .owner = std::make_shared<at::Tensor>(tensor)};
}

/// The memory of a buffer as a tensor of that shape and type, which must not be
/// larger; the buffer's owner lives as long as the tensor's storage.
inline at::Tensor tensor_of(const Buffer& buffer, at::IntArrayRef shape,
                            at::ScalarType type) {
  const auto options =
      at::TensorOptions(type).device(torch_device(buffer.device));
  if (!buffer.owner) return at::from_blob(buffer.data, shape, options);
  return at::from_blob(
      buffer.data, shape, [owner = buffer.owner](void*) {}, options);
}

/// The bytes of a buffer.
inline at::Tensor tensor_of(const Buffer& buffer) {
  return tensor_of(buffer, {static_cast<std::int64_t>(buffer.size)}, at::kByte);
}

}  // namespace ringweave::comm
