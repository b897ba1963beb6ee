// One more token of each of several sequences, whose states are on one rank.
#pragma once

#include <ATen/core/Tensor.h>

#include "ringweave/linear_attention/linear_attention.h"

namespace ringweave::linear_attention {

/// As linear_attention() of sequences of one token each: q, k (sequences,
/// heads, key_dim), v (sequences, heads, value_dim); gates undefined, (heads),
/// (sequences, heads) or (sequences, heads, key_dim). `states`: (sequences,
/// state heads, key_dim, value_dim), fp32 (fp64 for fp64), contiguous; becomes
/// the states behind the tokens. Returns (sequences, the larger of query and
/// state heads, value_dim) in v's type. No gradients, no messages.
at::Tensor advance(const at::Tensor& q, const at::Tensor& k,
                   const at::Tensor& v, Decay decay, const at::Tensor& gates,
                   double scale, const at::Tensor& states);

}  // namespace ringweave::linear_attention
