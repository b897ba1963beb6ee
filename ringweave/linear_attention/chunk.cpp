#include "ringweave/linear_attention/chunk.h"

#include <vector>

#include <ATen/ATen.h>

namespace ringweave::linear_attention {
namespace {

/// (…, rows, columns) as (batch, rows, columns). No copy for contiguous x.
at::Tensor as_batch(const at::Tensor& x) {
  return x.dim() == 3 ? x : x.flatten(0, x.dim() - 3);
}

/// The left and right halves of all blocks of 2·half tokens of x
/// (…, chunk, dims): views (blocks, half, dims).
struct Halves {
  at::Tensor left;
  at::Tensor right;
};

Halves halves(const at::Tensor& x, std::int64_t half) {
  const at::Tensor blocks = x.view({-1, 2, half, x.size(-1)});
  return {blocks.select(1, 0), blocks.select(1, 1)};
}

/// The blocks of a (batch, chunk, chunk) matrix whose rows are right halves and
/// whose columns are left halves: a view (batch, blocks, half, half).
at::Tensor lower_left(const at::Tensor& matrix, std::int64_t half) {
  const std::int64_t blocks = matrix.size(1) / (2 * half);
  return matrix.view({-1, blocks, 2, half, blocks, 2, half})
      .diagonal(0, 1, 4)  // (batch, 2, half, 2, half, blocks)
      .select(1, 1)       // (batch, half, 2, half, blocks)
      .select(2, 0)       // (batch, half, half, blocks)
      .permute({0, 3, 1, 2});
}

/// The last token of each block in a view (blocks, half, dims).
at::Tensor last(const at::Tensor& x) { return x.narrow(1, x.size(1) - 1, 1); }

bool per_key(const at::Tensor& factor) {
  return factor.defined() && factor.size(-1) > 1;
}

/// Lets suffixes grow from blocks of 1 token to the whole chunk: each row of
/// `suffix` starts as the value to scale.
void grow_suffix(const at::Tensor& suffix, const at::Tensor& factor) {
  at::Tensor total = factor;  // product over each block
  for (std::int64_t half = 1; half < factor.size(-2); half *= 2) {
    const Halves totals = halves(total, 1);
    halves(suffix, half).left.mul_(totals.right);
    total = totals.left * totals.right;
  }
}

void grow_prefix(const at::Tensor& prefix, const at::Tensor& factor) {
  at::Tensor total = factor;
  for (std::int64_t half = 1; half < factor.size(-2); half *= 2) {
    const Halves totals = halves(total, 1);
    halves(prefix, half).right.mul_(totals.left);
    total = totals.left * totals.right;
  }
}

at::Tensor suffix_products(const at::Tensor& factor) {
  at::Tensor suffix = at::ones_like(factor);
  grow_suffix(suffix, factor);
  return suffix;
}

at::Tensor prefix_products(const at::Tensor& factor) {
  at::Tensor prefix = factor.clone();
  grow_prefix(prefix, factor);
  return prefix;
}

/// D[t][s] = product of the factors s+1 … t for s <= t, else 0; for factors
/// without a key dimension: (…, chunk, chunk).
at::Tensor decay_matrix(const at::Tensor& factor) {
  const std::int64_t chunk = factor.size(-2);
  std::vector<std::int64_t> shape = factor.sizes().vec();
  shape.back() = chunk;
  at::Tensor matrix = at::zeros(shape, factor.options());
  const at::Tensor flat = as_batch(matrix);
  flat.diagonal(0, 1, 2).fill_(1);
  const at::Tensor prefix = factor.clone();
  const at::Tensor suffix = at::ones_like(factor);
  for (std::int64_t half = 1; half < chunk; half *= 2) {
    const Halves from = halves(suffix, half);
    const Halves to = halves(prefix, half);
    lower_left(flat, half)
        .copy_((to.right * from.left.transpose(1, 2))
                   .view({flat.size(0), -1, half, half}));
    from.left.mul_(last(to.right));
    to.right.mul_(last(to.left));
  }
  return matrix;
}

/// D without decay.
at::Tensor causal_matrix(const at::Tensor& like) {
  const std::int64_t chunk = like.size(-2);
  return at::ones({chunk, chunk}, like.options()).tril_();
}

at::Tensor scores_matrix(const at::Tensor& like, const at::Tensor& factor) {
  return factor.defined() ? decay_matrix(factor) : causal_matrix(like);
}

/// Σ_d q_t k_s, for half = 1 without the cost of tiny matrix products.
at::Tensor block_scores(const at::Tensor& q, const at::Tensor& k) {
  if (q.size(1) > 1) return at::bmm(q, k.transpose(1, 2));
  return (q * k).sum(-1, true);
}

IntraForward intra_forward_per_key(const at::Tensor& q, const at::Tensor& k,
                                   const at::Tensor& v,
                                   const at::Tensor& factor) {
  const std::int64_t chunk = q.size(-2);
  std::vector<std::int64_t> shape = q.sizes().vec();
  shape.back() = chunk;
  const at::Tensor scores = at::zeros(shape, q.options());
  const at::Tensor flat = as_batch(scores);
  flat.diagonal(0, 1, 2).copy_(as_batch((q * k).sum(-1, true)).squeeze(-1));
  const at::Tensor read = q * factor;
  const at::Tensor write = k.clone();
  at::Tensor total = factor;
  for (std::int64_t half = 1; half < chunk; half *= 2) {
    const Halves reads = halves(read, half);
    const Halves writes = halves(write, half);
    lower_left(flat, half)
        .copy_(block_scores(reads.right, writes.left)
                   .view({flat.size(0), -1, half, half}));
    const Halves totals = halves(total, 1);
    writes.left.mul_(totals.right);
    reads.right.mul_(totals.left);
    total = totals.left * totals.right;
  }
  return {batch_product(scores, v), read};
}

/// One level of intra_backward_per_key: adds what the pairs between the halves
/// of blocks of 2·half tokens give.
void add_level(const at::Tensor& dscores, std::int64_t half,
               const Halves& reads, const Halves& writes, const Halves& prefix,
               const Halves& suffix, const Halves& dq, const Halves& dk) {
  const at::Tensor d =
      lower_left(dscores, half).contiguous().view({-1, half, half});
  if (half == 1) {
    dq.right.add_(writes.left * d * prefix.right);
    dk.left.add_(reads.right * d * suffix.left);
  } else {
    dq.right.addcmul_(at::bmm(d, writes.left), prefix.right);
    dk.left.addcmul_(at::bmm(d.transpose(1, 2), reads.right), suffix.left);
  }
}

IntraBackward intra_backward_per_key(const at::Tensor& q, const at::Tensor& k,
                                     const at::Tensor& v,
                                     const at::Tensor& dout,
                                     const at::Tensor& factor) {
  const std::int64_t chunk = q.size(-2);
  const at::Tensor dscores = batch_product_nt(dout, v);
  const at::Tensor dflat = as_batch(dscores);
  const at::Tensor scores = at::zeros_like(dscores);
  const at::Tensor flat = as_batch(scores);
  flat.diagonal(0, 1, 2).copy_(as_batch((q * k).sum(-1, true)).squeeze(-1));
  const at::Tensor diagonal = dscores.diagonal(0, -2, -1).unsqueeze(-1);
  const at::Tensor dq = diagonal * k;
  const at::Tensor dk = diagonal * q;
  const at::Tensor read = q * factor;
  const at::Tensor write = k.clone();
  const at::Tensor prefix = factor.clone();
  const at::Tensor suffix = at::ones_like(factor);
  for (std::int64_t half = 1; half < chunk; half *= 2) {
    const Halves reads = halves(read, half);
    const Halves writes = halves(write, half);
    const Halves prefixes = halves(prefix, half);
    const Halves suffixes = halves(suffix, half);
    lower_left(flat, half)
        .copy_(block_scores(reads.right, writes.left)
                   .view({flat.size(0), -1, half, half}));
    add_level(dflat, half, reads, writes, prefixes, suffixes, halves(dq, half),
              halves(dk, half));
    // The totals of the halves, as long as they are unchanged.
    writes.left.mul_(last(prefixes.right));
    suffixes.left.mul_(last(prefixes.right));
    reads.right.mul_(last(prefixes.left));
    prefixes.right.mul_(last(prefixes.left));
  }
  return {dq, dk, batch_product_tn(scores, dout), write, prefix, suffix};
}

}  // namespace

at::Tensor to_chunks(const at::Tensor& x, std::int64_t first,
                     std::int64_t tokens, std::int64_t chunk,
                     at::ScalarType type) {
  const at::Tensor source = x.dim() == 3 ? x.unsqueeze(-1) : x;
  const std::int64_t chunks = (tokens + chunk - 1) / chunk;
  const std::int64_t full = tokens / chunk;
  const std::int64_t rest = tokens - full * chunk;
  at::Tensor out =
      at::empty({chunks, source.size(0), source.size(2), chunk, source.size(3)},
                source.options().dtype(type));
  if (full > 0) {
    out.narrow(0, 0, full)
        .copy_(source.narrow(1, first, full * chunk)
                   .unflatten(1, {full, chunk})
                   .permute({1, 0, 3, 2, 4}));
  }
  if (rest > 0) {
    const at::Tensor tail = out.select(0, full);
    tail.narrow(2, 0, rest)
        .copy_(
            source.narrow(1, first + full * chunk, rest).permute({0, 2, 1, 3}));
    tail.narrow(2, rest, chunk - rest).zero_();
  }
  return out;
}

void from_chunks(const at::Tensor& chunks, const at::Tensor& x,
                 std::int64_t first, std::int64_t tokens) {
  const at::Tensor target = x.dim() == 3 ? x.unsqueeze(-1) : x;
  const std::int64_t chunk = chunks.size(3);
  const std::int64_t full = tokens / chunk;
  const std::int64_t rest = tokens - full * chunk;
  if (full > 0) {
    target.narrow(1, first, full * chunk)
        .unflatten(1, {full, chunk})
        .copy_(chunks.narrow(0, 0, full).permute({1, 0, 3, 2, 4}));
  }
  if (rest > 0) {
    target.narrow(1, first + full * chunk, rest)
        .copy_(chunks.select(0, full).narrow(2, 0, rest).permute({0, 2, 1, 3}));
  }
}

at::Tensor times_suffix(const at::Tensor& x, const at::Tensor& factor) {
  if (!factor.defined()) return x;
  if (!per_key(factor)) return x * suffix_products(factor);
  at::Tensor scaled = x.clone();
  grow_suffix(scaled, factor);
  return scaled;
}

at::Tensor times_prefix(const at::Tensor& x, const at::Tensor& factor) {
  if (!factor.defined()) return x;
  if (!per_key(factor)) return x * prefix_products(factor);
  at::Tensor scaled = x * factor;
  grow_prefix(scaled, factor);
  return scaled;
}

at::Tensor product(const at::Tensor& factor) {
  at::Tensor total = factor;
  while (total.size(-2) > 1) {
    const at::Tensor pairs = total.unflatten(-2, {-1, 2});
    total = pairs.select(-2, 0) * pairs.select(-2, 1);
  }
  return total;
}

IntraForward intra_forward(const at::Tensor& q, const at::Tensor& k,
                           const at::Tensor& v, const at::Tensor& factor) {
  if (per_key(factor)) return intra_forward_per_key(q, k, v, factor);
  const at::Tensor scores =
      batch_product_nt(q, k).mul_(scores_matrix(q, factor));
  return {batch_product(scores, v), times_prefix(q, factor)};
}

IntraBackward intra_backward(const at::Tensor& q, const at::Tensor& k,
                             const at::Tensor& v, const at::Tensor& dout,
                             const at::Tensor& factor) {
  if (per_key(factor)) return intra_backward_per_key(q, k, v, dout, factor);
  const at::Tensor decay = scores_matrix(q, factor);
  const at::Tensor scores = batch_product_nt(q, k).mul_(decay);
  const at::Tensor dscores = batch_product_nt(dout, v).mul_(decay);
  IntraBackward result{batch_product(dscores, k),
                       batch_product_tn(dscores, q),
                       batch_product_tn(scores, dout),
                       k,
                       {},
                       {}};
  if (factor.defined()) {
    result.prefix = prefix_products(factor);
    result.suffix = suffix_products(factor);
    result.write = k * result.suffix;
  }
  return result;
}

at::Tensor batch_product(const at::Tensor& a, const at::Tensor& b) {
  std::vector<std::int64_t> shape = a.sizes().vec();
  shape.back() = b.size(-1);
  return at::bmm(as_batch(a), as_batch(b)).view(shape);
}

at::Tensor batch_product_tn(const at::Tensor& a, const at::Tensor& b) {
  std::vector<std::int64_t> shape = b.sizes().vec();
  shape[shape.size() - 2] = a.size(-1);
  return at::bmm(as_batch(a).transpose(1, 2), as_batch(b)).view(shape);
}

at::Tensor batch_product_nt(const at::Tensor& a, const at::Tensor& b) {
  std::vector<std::int64_t> shape = a.sizes().vec();
  shape.back() = b.size(-2);
  return at::bmm(as_batch(a), as_batch(b).transpose(1, 2)).view(shape);
}

void add_product(const at::Tensor& sum, const at::Tensor& a,
                 const at::Tensor& b) {
  as_batch(sum).baddbmm_(as_batch(a), as_batch(b));
}

void add_product_nt(const at::Tensor& sum, const at::Tensor& a,
                    const at::Tensor& b) {
  as_batch(sum).baddbmm_(as_batch(a), as_batch(b).transpose(1, 2));
}

}  // namespace ringweave::linear_attention
