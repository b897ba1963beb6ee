// The mathematics inside chunks, on batches of chunks of equal length.
//
// A chunk tensor is (chunks, batch, heads, rows, dims), contiguous. `heads` are
// state heads, each with keys, values and a decay of its own. Keys and values
// have a row per token, queries and outputs one per token and query head of the
// group that reads the state head: token by token, and for each its group. So
// no key is repeated for a group, and a product sums over it.
//
// Chunks are equally long, a power of two; tokens that pad the last chunk are
// zero and have decay factor 1, which changes nothing. Decays come as factors
// f_t = exp(g_t) in [0, 1], 0 at a reset, of shape (chunks|1, batch|1, heads|1,
// tokens, key_dim|1), or undefined, which means 1. Products over ranges of
// tokens are built by doubling, never as differences of sums or quotients: a
// factor of 0 is exact, and nothing can overflow or cancel. A product of 64
// factors, each rounded, is off by at most 4e-6 in fp32, however small it is;
// what spans chunks goes by logarithms (chunk_states.h).
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace ringweave::linear_attention {

/// Tokens `first` … first + tokens - 1 of x (batch, tokens, heads of x[, dims])
/// as chunks of `chunk` tokens with `heads` state heads, converted to `type`; a
/// missing last dimension becomes 1, what is missing at the end becomes 0. If x
/// has more heads, they are groups; if it has fewer, each is that of several
/// state heads.
at::Tensor to_chunks(const at::Tensor& x, std::int64_t heads,
                     std::int64_t first, std::int64_t tokens,
                     std::int64_t chunk, at::ScalarType type);
/// The reverse, rounding to the type of `x`; sums what several state heads have
/// for one head of x.
void from_chunks(const at::Tensor& chunks, const at::Tensor& x,
                 std::int64_t first, std::int64_t tokens, std::int64_t chunk);

/// x_t times the product of the factors after t in its chunk (x with a row per
/// token), or up to and including t (with any rows).
at::Tensor times_suffix(const at::Tensor& x, const at::Tensor& factor);
at::Tensor times_prefix(const at::Tensor& x, const at::Tensor& factor);
/// x times what its tokens have: y (chunks|1, batch|1, heads|1, tokens,
/// dims|1).
at::Tensor times_tokens(const at::Tensor& x, const at::Tensor& y);
/// sum += x ⊙ y, in place.
void add_times_tokens(const at::Tensor& sum, const at::Tensor& x,
                      const at::Tensor& y);
/// Sums over each token's group: a row per token.
at::Tensor sum_groups(const at::Tensor& x, std::int64_t tokens);

/// What a chunk without incoming state computes.
struct IntraForward {
  at::Tensor out;   ///< (chunks, batch, heads, rows of q, value_dim)
  at::Tensor read;  ///< q times prefix: what reads the incoming state
};
IntraForward intra_forward(const at::Tensor& q, const at::Tensor& k,
                           const at::Tensor& v, const at::Tensor& factor);

/// Its gradients, and what the parts that cross chunks need: write = k ⊙
/// suffix.
struct IntraBackward {
  at::Tensor dq, dk, dv;
  /// Of the log gates, from pairs within the chunk; (chunks, batch, heads,
  /// tokens, key_dim|1); undefined: not wanted.
  at::Tensor dgates;
  at::Tensor write;
  at::Tensor prefix, suffix;  ///< shaped like factor; undefined if it is
};
/// A gate scales what its token and later ones read of earlier ones. So its
/// gradient is the sum, over tokens s < u <= t, of what pair (s, t) gives the
/// loss: dg_u = Σ q_t ⊙ k_s ⊙ (factors s+1 … t) · (dout_t · v_s). The formula
/// q ⊙ dq - k ⊙ dk of GLA (arXiv 2312.06635) has s = t in both terms; the
/// difference has nothing left of a dg_u that is small against them.
IntraBackward intra_backward(const at::Tensor& q, const at::Tensor& k,
                             const at::Tensor& v, const at::Tensor& dout,
                             const at::Tensor& factor, bool want_gates);

/// sum_u += Σ x_t over t >= u, or over t < u, within each chunk, a row per
/// token; x is overwritten.
void add_sums_from(const at::Tensor& sum, const at::Tensor& x);
void add_sums_before(const at::Tensor& sum, const at::Tensor& x);

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
