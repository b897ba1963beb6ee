// Keys and values as they travel: buffers, and views into them.
//
// Wire layout of a block part: [K | V][batch][tokens][kv_heads][head_dim],
// contiguous; the parts of a block one after the other.
#pragma once

#include <cstddef>
#include <map>
#include <span>

#include <ATen/core/Tensor.h>

#include "ringweave/schedule/layout/layout.h"
#include "ringweave/schedule/schedule.h"

namespace ringweave::attention {

struct KvShape {
  std::int64_t batch = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;

  /// Elements of one token's K and V: what a schedule's unit is on the wire.
  std::int64_t unit() const { return 2 * batch * kv_heads * head_dim; }
};

/// K and V, each (batch, tokens, kv_heads, head_dim).
struct KvPair {
  at::Tensor k;
  at::Tensor v;
};

/// The tokens `local` of x (batch, tokens, …), as a view.
at::Tensor take(const at::Tensor& x, const schedule::Run& local);
KvPair take(const KvPair& x, const schedule::Run& local);

/// Views of one part in a flat buffer; offset and tokens in units.
KvPair view_part(const at::Tensor& buffer, std::int64_t offset,
                 std::int64_t tokens, const KvShape& shape);

/// The bytes of a range of a flat buffer, in units.
std::span<std::byte> bytes_of(const at::Tensor& buffer, std::int64_t offset,
                              std::int64_t size, const KvShape& shape);

/// Flat buffers by slot number, as large as the schedule says.
class Slots {
 public:
  Slots(const schedule::Schedule& schedule, Rank rank,
        schedule::Payload payload, const KvShape& shape,
        const at::TensorOptions& options);

  const at::Tensor& at(int slot) const { return buffers_.at(slot); }
  /// Puts what a former pass left in `slot` there; no copy if the size fits.
  void adopt(int slot, const at::Tensor& content);
  std::int64_t bytes() const;

 private:
  std::map<int, at::Tensor> buffers_;
};

}  // namespace ringweave::attention
