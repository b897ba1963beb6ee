#include <algorithm>
#include <utility>

#include <ATen/ATen.h>

#include "ringweave/attention/passes.h"
#include "ringweave/base/error.h"
#include "ringweave/device/tensor_buffer.h"
#include "ringweave/tensor/scalar_type.h"

namespace ringweave::attention {
namespace {

using schedule::Memory;
using schedule::Payload;

std::size_t aligned(std::size_t bytes) {
  return (bytes + device::kBufferAlignment - 1) / device::kBufferAlignment *
         device::kBufferAlignment;
}

/// Takes buffers out of one, one after the other.
class Cutter {
 public:
  explicit Cutter(device::Buffer whole) : whole_(std::move(whole)) {}
  device::Buffer take(std::size_t bytes) {
    const std::size_t begin = next_;
    next_ += aligned(bytes);
    return whole_.slice(begin, bytes);
  }

 private:
  device::Buffer whole_;
  std::size_t next_ = 0;
};

}  // namespace

PassMemory::PassMemory(const schedule::Program& program, const PassInput& input,
                       at::ScalarType grad_type, at::Tensor kept,
                       comm::Communicator& communicator, std::int64_t room)
    : kept_(std::move(kept)) {
  const KvShape shape = input.kv_shape();
  const at::ScalarType sum_type = tensor::accumulate_type(input.type());
  const auto unit_bytes = [&](at::ScalarType type) {
    return static_cast<std::size_t>(shape.unit()) * at::elementSize(type);
  };
  const auto scratch_size = [&](Payload payload) {
    const auto found = program.scratch_size.find(payload);
    return found == program.scratch_size.end() ? 0 : found->second;
  };
  const auto bytes = [&](std::int64_t units, at::ScalarType type) {
    return static_cast<std::size_t>(units) * unit_bytes(type);
  };
  const std::size_t packed_keys =
      program.packs_keys ? bytes(program.packed_size, input.type()) : 0;
  const std::size_t packed_gradients =
      program.packs_gradients ? bytes(program.packed_size, sum_type) : 0;
  const std::size_t keys = bytes(scratch_size(Payload::kv), input.type());
  const std::size_t gradients =
      bytes(scratch_size(Payload::kv_grad), grad_type);
  Cutter scratch(communicator.scratch(aligned(packed_keys) +
                                          aligned(packed_gradients) +
                                          aligned(keys) + aligned(gradients),
                                      input.stream));
  const auto tensor = [&](std::size_t size, at::ScalarType type,
                          device::Buffer& buffer) {
    buffer = scratch.take(size);
    return wire_tensor(buffer, shape, type);
  };
  comm::PayloadMemory& of_keys = buffers_[Payload::kv];
  comm::PayloadMemory& of_gradients = buffers_[Payload::kv_grad];
  of_keys.unit_bytes = unit_bytes(input.type());
  of_gradients.unit_bytes = unit_bytes(grad_type);
  packed_keys_ = tensor(packed_keys, input.type(), of_keys.packed);
  packed_gradients_ = tensor(packed_gradients, sum_type, of_gradients.packed);
  scratch_keys_ = tensor(keys, input.type(), of_keys.scratch);
  scratch_gradients_ = tensor(gradients, grad_type, of_gradients.scratch);
  if (!kept_.defined()) {
    kept_ = at::empty({std::max(program.kept_size, room), 2, shape.batch,
                       shape.kv_heads, shape.head_dim},
                      input.kv.k.options());
  }
  of_keys.kept = device::buffer_of(kept_);
  buffer_bytes_ = static_cast<std::int64_t>(
      scratch_keys_.nbytes() + scratch_gradients_.nbytes() +
      bytes(program.kept_size, input.type()));
}

const at::Tensor& PassMemory::wire(Payload payload, Memory memory) const {
  const bool keys = payload == Payload::kv;
  switch (memory) {
    case Memory::packed:
      return keys ? packed_keys_ : packed_gradients_;
    case Memory::scratch:
      return keys ? scratch_keys_ : scratch_gradients_;
    case Memory::kept:
      return kept_;
    case Memory::input:
      break;
  }
  throw InternalError("bug in ringweave: the input is in no wire layout");
}

KvPair region_keys(const PassInput& input, const PassMemory& memory,
                   const schedule::Program::Region& region,
                   at::ScalarType type) {
  if (region.memory == Memory::input) {
    const KvPair own = take(input.kv, region.keys);
    return {own.k.to(type), own.v.to(type)};
  }
  const Range tokens = {region.keys.begin, region.keys.end()};
  const at::Tensor& wire = memory.wire(Payload::kv, region.memory);
  if (wire.scalar_type() == type) return view(wire, tokens);
  return view(wire.narrow(0, tokens.begin, tokens.size()).to(type),
              {0, tokens.size()});
}

Tile make_tile(const at::Tensor& q, const KvPair& keys,
               const PreparedCall& call, double scale) {
  const auto& [rows, columns, kind, band] = call.area;
  const bool with_bias = call.bias.defined();
  return {.q = q.narrow(1, rows.begin, rows.size()),
          .k = keys.k.narrow(1, columns.begin, columns.size()),
          .v = keys.v.narrow(1, columns.begin, columns.size()),
          .scale = scale,
          .kind = with_bias ? schedule::Area::Kind::full : kind,
          .band = band,
          .bias = call.bias};
}

}  // namespace ringweave::attention
