// The memory of one exchange: scratch of the communicator, in which own
// summaries are packed and others arrive.
#pragma once

#include <array>

#include <ATen/core/Tensor.h>

#include "ringweave/comm/communicator.h"
#include "ringweave/comm/executor.h"
#include "ringweave/schedule/exchange/exchange_program.h"

namespace ringweave::linear_attention {

class ExchangeMemory {
 public:
  /// Used on `stream`.
  ExchangeMemory(const schedule::ExchangeProgram& program, at::ScalarType type,
                 comm::Communicator& communicator,
                 const device::Stream& stream);

  const comm::ProgramMemory& buffers() const { return buffers_; }

  /// The numbers of some rows: (strands, rows of each, width), a view.
  at::Tensor rows(const schedule::Strips& strips, std::int64_t width) const;
  /// Of a place: flat, a view.
  at::Tensor flat(const schedule::Place& place) const;

 private:
  std::int64_t begin_of(schedule::Memory memory) const;

  at::Tensor all_;  // flat: packed, then scratch, then kept
  std::int64_t packed_, scratch_;
  comm::ProgramMemory buffers_;
};

/// The same rows of a contiguous tensor of `width` numbers per row, as
/// ExchangeMemory::rows() has them: a view.
at::Tensor rows_of(const at::Tensor& x, const schedule::Strips& strips,
                   std::int64_t width);

}  // namespace ringweave::linear_attention
