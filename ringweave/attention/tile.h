// Attention of some rows against some keys on one device: the narrow interface
// behind which kernels can be exchanged.
#pragma once

#include <ATen/core/Tensor.h>

#include "ringweave/attention/local_tile.h"

namespace ringweave::attention {

/// The softmax over a part of the keys: merge_into() joins several.
struct Partial {
  at::Tensor out;  ///< (batch, rows, heads, head_dim), fp32 or fp64
  at::Tensor lse;  ///< (batch, heads, rows), natural log, the same type
};

struct TileGradients {
  at::Tensor q;  ///< (batch, rows, heads, head_dim), fp32 or fp64
  at::Tensor k;  ///< (batch, keys, kv_heads, head_dim)
  at::Tensor v;
};

/// fp64 for fp64, else fp32: what softmax statistics and sums are kept in.
at::ScalarType accumulate_type(at::ScalarType type);

/// q: (batch, rows, heads, head_dim) of the tile's rows; k, v: (batch, keys,
/// kv_heads, head_dim) of the tile's keys; the last stride is 1. bf16 is
/// computed in fp32. Neither rows nor keys may be empty.
Partial tile_forward(const at::Tensor& q, const at::Tensor& k,
                     const at::Tensor& v, const LocalTile& tile, double scale);

/// `grad_out`, `out`, `lse`: of the tile's rows, over *all* keys of the
/// sequence (global lse), in the accumulate type. The tile's contributions to
/// the gradients are then exact on their own.
TileGradients tile_backward(const at::Tensor& grad_out, const at::Tensor& q,
                            const at::Tensor& k, const at::Tensor& v,
                            const at::Tensor& out, const at::Tensor& lse,
                            const LocalTile& tile, double scale);

/// lse = logaddexp(lse_a, lse_b), out = exp(lse_a - lse)·out_a + exp(lse_b -
/// lse)·out_b, in place in `total`; rows without keys on both sides keep out 0
/// and lse -inf.
void merge_into(const Partial& total, const Partial& part);

}  // namespace ringweave::attention
