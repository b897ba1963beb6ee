#include "ringweave/attention/packing.h"

#include <ATen/ATen.h>

#include "ringweave/base/error.h"

namespace ringweave::attention {

at::Tensor take(const at::Tensor& x, const schedule::Run& local) {
  return x.slice(1, local.begin, local.end(), local.stride);
}

KvPair take(const KvPair& x, const schedule::Run& local) {
  return {take(x.k, local), take(x.v, local)};
}

KvPair view_part(const at::Tensor& buffer, std::int64_t offset,
                 std::int64_t tokens, const KvShape& shape) {
  const at::Tensor both =
      buffer.narrow(0, offset * shape.unit(), tokens * shape.unit())
          .view({2, shape.batch, tokens, shape.kv_heads, shape.head_dim});
  return {both[0], both[1]};
}

std::span<std::byte> bytes_of(const at::Tensor& buffer, std::int64_t offset,
                              std::int64_t size, const KvShape& shape) {
  ensure((offset + size) * shape.unit() <= buffer.numel(),
         "message of {} units at {} in a buffer of {} elements", size, offset,
         buffer.numel());
  const auto element = static_cast<std::int64_t>(buffer.element_size());
  auto* begin = static_cast<std::byte*>(buffer.data_ptr());
  return {begin + offset * shape.unit() * element,
          static_cast<std::size_t>(size * shape.unit() * element)};
}

Slots::Slots(const schedule::Schedule& schedule, Rank rank,
             schedule::Payload payload, const KvShape& shape,
             const at::TensorOptions& options) {
  for (const auto& [slot, size] :
       schedule::slot_sizes(schedule, rank, payload)) {
    buffers_[slot] = at::empty({size * shape.unit()}, options);
  }
}

void Slots::adopt(int slot, const at::Tensor& content) {
  at::Tensor& buffer = buffers_.at(slot);
  if (buffer.numel() == content.numel()) {
    buffer = content;
    return;
  }
  const std::int64_t size = std::min(buffer.numel(), content.numel());
  buffer.narrow(0, 0, size).copy_(content.narrow(0, 0, size));
}

std::int64_t Slots::bytes() const {
  std::int64_t bytes = 0;
  for (const auto& [slot, buffer] : buffers_) {
    bytes += static_cast<std::int64_t>(buffer.nbytes());
  }
  return bytes;
}

}  // namespace ringweave::attention
