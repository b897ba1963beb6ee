// The mathematics inside chunks, on batches of chunks of equal length.
//
// A chunk tensor is (chunks, batch, heads, chunk, dims), contiguous, with chunk
// a power of two; tokens that pad the last chunk are zero and have decay factor
// 1, which changes nothing. Decays come as factors f_t = exp(g_t) in [0, 1], 0
// at a reset, of shape (chunks|1, batch|1, heads|1, chunk, key_dim|1), or
// undefined, which means 1. Products over ranges of tokens are built by
// doubling, never as differences of sums or quotients: a factor of 0 is exact,
// and nothing can overflow or cancel.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace ringweave::linear_attention {

/// Tokens `first` … first + tokens - 1 of x (batch, tokens, heads[, dims]) as
/// `chunks` chunks of `chunk` tokens, converted to `type`; a missing last
/// dimension becomes 1, what is missing at the end becomes 0.
at::Tensor to_chunks(const at::Tensor& x, std::int64_t first,
                     std::int64_t tokens, std::int64_t chunk,
                     at::ScalarType type);
/// The reverse, rounding to the type of `x`.
void from_chunks(const at::Tensor& chunks, const at::Tensor& x,
                 std::int64_t first, std::int64_t tokens);

/// x_t times the product of the factors after t in its chunk, or up to and
/// including t.
at::Tensor times_suffix(const at::Tensor& x, const at::Tensor& factor);
at::Tensor times_prefix(const at::Tensor& x, const at::Tensor& factor);
/// The product over each chunk: (chunks|1, batch|1, heads|1, 1, key_dim|1).
at::Tensor product(const at::Tensor& factor);

/// What a chunk without incoming state computes.
struct IntraForward {
  at::Tensor out;   ///< (chunks, batch, heads, chunk, value_dim)
  at::Tensor read;  ///< q times prefix: what reads the incoming state
};
IntraForward intra_forward(const at::Tensor& q, const at::Tensor& k,
                           const at::Tensor& v, const at::Tensor& factor);

/// Its gradients, and the scaled operands that the parts which cross chunks
/// need: read = q ⊙ prefix, write = k ⊙ suffix.
struct IntraBackward {
  at::Tensor dq, dk, dv;
  at::Tensor write;
  at::Tensor prefix, suffix;  ///< shaped like factor; undefined if it is
};
IntraBackward intra_backward(const at::Tensor& q, const at::Tensor& k,
                             const at::Tensor& v, const at::Tensor& dout,
                             const at::Tensor& factor);

/// Batched matrix products over all leading dimensions: a · b, aᵀ · b, a · bᵀ.
at::Tensor batch_product(const at::Tensor& a, const at::Tensor& b);
at::Tensor batch_product_tn(const at::Tensor& a, const at::Tensor& b);
at::Tensor batch_product_nt(const at::Tensor& a, const at::Tensor& b);
/// sum += a · b, and the transposed variants, in place; `sum` is contiguous.
void add_product(const at::Tensor& sum, const at::Tensor& a,
                 const at::Tensor& b);
void add_product_nt(const at::Tensor& sum, const at::Tensor& a,
                    const at::Tensor& b);

}  // namespace ringweave::linear_attention
