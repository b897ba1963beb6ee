// The shapes that torch's attention operations ask for.
#pragma once

#include <cstdint>
#include <limits>

#include <ATen/ATen.h>

#include "ringweave/base/range.h"

namespace ringweave::attention {

/// (batch, tokens, heads, head_dim) as (batch, heads, tokens, head_dim), and
/// back: a view.
inline at::Tensor heads_first(const at::Tensor& x) { return x.transpose(1, 2); }

/// Zeros behind the last dimension, up to a multiple of `multiple`: keys and
/// values of 0 change no score and no output. x itself if there is nothing to
/// add.
inline at::Tensor padded(const at::Tensor& x, std::int64_t multiple,
                         double value = 0) {
  const std::int64_t size = x.size(-1);
  const std::int64_t more = ceil_div(size, multiple) * multiple - size;
  return more == 0 ? x : at::constant_pad_nd(x, {0, more}, value);
}

/// The first `size` of the last dimension: a view.
inline at::Tensor unpadded(const at::Tensor& x, std::int64_t size) {
  return x.narrow(-1, 0, size);
}

/// An infinite lse is that of a row that sees no key: kernels disagree on its
/// sign.
inline at::Tensor regular_lse(const at::Tensor& lse) {
  return lse.masked_fill(lse.isinf(), -std::numeric_limits<double>::infinity());
}

}  // namespace ringweave::attention
