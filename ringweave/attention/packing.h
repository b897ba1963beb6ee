// Keys and values as they travel: into that form and back.
//
// Wire layout of a unit: one token's [K | V][batch][kv_heads][head_dim],
// contiguous; tokens follow one another. So any tokens that lie side by side
// are one message, and one view for a kernel.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/device/buffer.h"
#include "ringweave/schedule/program/program.h"

namespace ringweave::attention {

struct KvShape {
  std::int64_t batch = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;

  /// Elements of one token's K and V: what a schedule's unit is on the wire.
  std::int64_t unit() const { return 2 * batch * kv_heads * head_dim; }
};

/// K and V, or their gradients, each (batch, tokens, kv_heads, head_dim).
struct KvPair {
  at::Tensor k;
  at::Tensor v;
};

/// The tokens `run` of both, as views.
KvPair take(const KvPair& x, const schedule::Run& run);

/// Memory in the wire layout: (tokens, 2, batch, kv_heads, head_dim).
at::Tensor wire_tensor(const device::Buffer& buffer, const KvShape& shape,
                       at::ScalarType type);
/// The tokens of a range, as views.
KvPair view(const at::Tensor& wire, const Range& tokens);

/// Copies the packed runs of the rank's own tokens into the wire layout.
void pack(const KvPair& from,
          const std::vector<schedule::Program::Packed>& runs,
          const at::Tensor& wire);
/// The reverse, rounding to the type of `to`.
void unpack(const at::Tensor& wire,
            const std::vector<schedule::Program::Packed>& runs,
            const KvPair& to);

/// Puts gradients of some keys, the tokens `keys` of `from`, where they lie in
/// the wire layout, from `begin` on; or adds them to what is there.
void put(const KvPair& from, const schedule::Run& keys, const at::Tensor& wire,
         std::int64_t begin, bool add);

}  // namespace ringweave::attention
