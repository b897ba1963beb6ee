// Feature maps of linear attention, and the normaliser that goes with those
// whose products are not negative.
#pragma once

#include <ATen/core/Tensor.h>

#include "ringweave/models/context.h"

namespace ringweave::models {

/// x: (…, d) → the d(d+1)/2 products of two of its numbers, such that
/// square_features(x) · square_features(y) = (x · y)². Differentiable.
at::Tensor square_features(const at::Tensor& x);

/// phi_q, phi_k: (batch, tokens, heads, width), v: (batch, tokens, kv_heads,
/// head_dim). Returns Σ (φ(q)·φ(k)) v / (Σ φ(q)·φ(k) + eps) over the tokens so
/// far, in v's type; the sums are in the type of phi_q, that of statistics. The
/// denominator travels as one more column of v.
at::Tensor normalised_attention(const at::Tensor& phi_q,
                                const at::Tensor& phi_k, const at::Tensor& v,
                                double eps, const Context& context);

}  // namespace ringweave::models
