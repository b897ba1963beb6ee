#include "ringweave/device/buffer.h"

#include <new>

#include "ringweave/base/error.h"

namespace ringweave::device {

Buffer Buffer::slice(std::size_t offset, std::size_t bytes) const {
  ensure(offset <= size && bytes <= size - offset,
         "{} bytes at {} of a buffer of {}", bytes, offset, size);
  return {data + offset, bytes, device, owner};
}

Buffer allocate_buffer(std::size_t bytes) {
  constexpr std::align_val_t kAlignment{kBufferAlignment};
  auto* data = static_cast<std::byte*>(::operator new(bytes, kAlignment));
  const auto free = [](void* memory) { ::operator delete(memory, kAlignment); };
  return {
      .data = data, .size = bytes, .owner = std::shared_ptr<void>(data, free)};
}

}  // namespace ringweave::device
