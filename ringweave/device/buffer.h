// Memory that messages are sent from and received into, and the streams that
// order work on it. Free of torch; device/tensor_buffer.h turns tensors into
// buffers and back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace ringweave::device {

class Accelerator;

/// Where memory lies, and where work on it runs.
struct Device {
  const Accelerator* accelerator = nullptr;  ///< null: the host
  int index = 0;                             ///< of an accelerator's device

  bool is_host() const { return accelerator == nullptr; }
  friend bool operator==(const Device&, const Device&) = default;
};

/// A queue whose work runs in order. The host has none: the default value
/// stands for it, and work on it runs in the call that asks for it.
///
/// On an accelerator, `device` and `id` are those of a c10::Stream. Streams
/// come from a small pool, so two that were asked for may be one: compare them.
/// Autograd sets the stream of a node's forward while its backward runs: read
/// the current stream at the start of each pass, and keep none.
struct Stream {
  Device device = {};
  std::int64_t id = 0;

  friend bool operator==(const Stream&, const Stream&) = default;
};

/// A range of memory. Copies share it.
struct Buffer {
  std::byte* data = nullptr;
  std::size_t size = 0;  ///< in bytes
  Device device = {};
  /// Whoever still uses the memory holds a copy of the owner: a message under
  /// way, also after its caller failed, and work that an accelerator has yet to
  /// do. An accelerator's allocator hands memory out again as soon as its owner
  /// is gone, whatever other streams still do with it. So such memory must have
  /// an owner: an at::Tensor, as buffer_of() makes it. On the host, without
  /// one, the caller keeps the memory until the Work of each message is
  /// destroyed.
  std::shared_ptr<void> owner = {};

  bool empty() const { return size == 0; }
  /// `bytes` bytes from `offset` on, with the same owner. Throws InternalError
  /// unless they lie within.
  Buffer slice(std::size_t offset, std::size_t bytes) const;
};

/// Alignment of allocate_buffer(): a cache line, and any vector register.
inline constexpr std::size_t kBufferAlignment = 64;

/// Host memory of its own, aligned, with undefined content.
Buffer allocate_buffer(std::size_t bytes);

/// The bytes of the caller's values in host memory, without an owner. Constant
/// values may be sent but not received into.
template <typename T, std::size_t kExtent>
Buffer borrowed(std::span<T, kExtent> values) {
  const auto bytes = std::as_bytes(values);
  return {.data = const_cast<std::byte*>(bytes.data()), .size = bytes.size()};
}

}  // namespace ringweave::device
