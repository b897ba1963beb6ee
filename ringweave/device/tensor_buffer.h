// Tensors as buffers and buffers as tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include <ATen/ATen.h>

#include "ringweave/base/error.h"
#include "ringweave/device/buffer.h"
#include "ringweave/device/torch_accelerator.h"

namespace ringweave::device {

/// The memory of a contiguous tensor, which it keeps alive.
inline Buffer buffer_of(const at::Tensor& tensor) {
  return {.data = static_cast<std::byte*>(tensor.data_ptr()),
          .size = tensor.nbytes(),
          .device = from_torch(tensor.device()),
          .owner = std::make_shared<at::Tensor>(tensor)};
}

/// The memory of a buffer as a tensor of that shape and type, which must not be
/// larger; the buffer's owner lives as long as the tensor's storage. An
/// accelerator's buffer begins at a multiple of the type's size in its owner.
inline at::Tensor tensor_of(const Buffer& buffer, at::IntArrayRef shape,
                            at::ScalarType type) {
  if (!buffer.device.is_host()) {
    // In the owner's storage, which the device's allocator knows.
    const auto& owner = *static_cast<const at::Tensor*>(buffer.owner.get());
    const auto* begin = static_cast<const std::byte*>(owner.storage().data());
    const auto offset = static_cast<std::size_t>(buffer.data - begin);
    const std::size_t size = at::elementSize(type);
    ensure(offset % size == 0, "a buffer at byte {} of its owner", offset);
    return at::empty({0}, owner.options().dtype(type))
        .set_(owner.storage(), static_cast<std::int64_t>(offset / size), shape);
  }
  const at::TensorOptions options(type);
  if (!buffer.owner) return at::from_blob(buffer.data, shape, options);
  return at::from_blob(
      buffer.data, shape, [owner = buffer.owner](void*) {}, options);
}

/// The bytes of a buffer.
inline at::Tensor tensor_of(const Buffer& buffer) {
  return tensor_of(buffer, {static_cast<std::int64_t>(buffer.size)}, at::kByte);
}

}  // namespace ringweave::device
