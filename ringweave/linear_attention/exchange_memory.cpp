#include "ringweave/linear_attention/exchange_memory.h"

#include <ATen/ATen.h>

#include "ringweave/base/error.h"
#include "ringweave/device/tensor_buffer.h"

namespace ringweave::linear_attention {

using schedule::Memory;
using schedule::Payload;

ExchangeMemory::ExchangeMemory(const schedule::ExchangeProgram& exchange,
                               at::ScalarType type,
                               comm::Communicator& communicator,
                               const device::Stream& stream) {
  const schedule::Program& program = exchange.program;
  const auto found = program.scratch_size.find(Payload::summary);
  packed_ = program.packed_size;
  scratch_ = found == program.scratch_size.end() ? 0 : found->second;
  const std::int64_t units = packed_ + scratch_ + program.kept_size;
  const std::size_t unit_bytes = at::elementSize(type);
  const device::Buffer buffer = communicator.scratch(
      static_cast<std::size_t>(units) * unit_bytes, stream);
  all_ = device::tensor_of(buffer, {units}, type);
  const auto slice = [&](std::int64_t begin, std::int64_t size) {
    return buffer.slice(static_cast<std::size_t>(begin) * unit_bytes,
                        static_cast<std::size_t>(size) * unit_bytes);
  };
  comm::PayloadMemory& memory = buffers_[Payload::summary];
  memory.unit_bytes = unit_bytes;
  memory.packed = slice(0, packed_);
  memory.scratch = slice(packed_, scratch_);
  memory.kept = slice(packed_ + scratch_, program.kept_size);
}

std::int64_t ExchangeMemory::begin_of(Memory memory) const {
  switch (memory) {
    case Memory::packed:
      return 0;
    case Memory::scratch:
      return packed_;
    case Memory::kept:
      return packed_ + scratch_;
    case Memory::input:
      break;
  }
  throw InternalError("bug in ringweave: a summary in the input");
}

at::Tensor ExchangeMemory::rows(const schedule::Strips& strips,
                                std::int64_t width) const {
  return all_.as_strided({strips.strands, strips.rows_per_strand(), width},
                         {strips.stride, width, 1},
                         begin_of(strips.memory) + strips.begin);
}

at::Tensor ExchangeMemory::flat(const schedule::Place& place) const {
  return all_.narrow(0, begin_of(place.memory) + place.begin, place.size);
}

at::Tensor rows_of(const at::Tensor& x, const schedule::Strips& strips,
                   std::int64_t width) {
  const std::int64_t rows = strips.rows_per_strand();
  return x.as_strided({strips.strands, rows, width}, {rows * width, width, 1},
                      x.storage_offset() + strips.rows.begin * width);
}

}  // namespace ringweave::linear_attention
