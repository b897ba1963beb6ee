#include "ringweave/linear_attention/chunk.h"

#include <algorithm>
#include <vector>

#include <ATen/ATen.h>

namespace ringweave::linear_attention {
namespace {

/// (…, rows, columns) as (batch, rows, columns). No copy for contiguous x.
at::Tensor as_batch(const at::Tensor& x) {
  return x.dim() == 3 ? x : x.flatten(0, x.dim() - 3);
}

/// The left and right halves of all blocks of 2·half rows of x
/// (…, rows, dims): views (blocks, half, dims).
struct Halves {
  at::Tensor left;
  at::Tensor right;
};

Halves halves(const at::Tensor& x, std::int64_t half) {
  const at::Tensor blocks = x.view({-1, 2, half, x.size(-1)});
  return {blocks.select(1, 0), blocks.select(1, 1)};
}

/// The blocks of a (batch, rows, chunk) matrix whose rows are of right halves
/// and whose columns are left halves: a view (batch, blocks, rows of half,
/// half).
at::Tensor lower_left(const at::Tensor& matrix, std::int64_t half) {
  const std::int64_t blocks = matrix.size(2) / (2 * half);
  const std::int64_t rows = matrix.size(1) / (2 * blocks);
  return matrix.view({-1, blocks, 2, rows, blocks, 2, half})
      .diagonal(0, 1, 4)  // (batch, 2, rows, 2, half, blocks)
      .select(1, 1)       // (batch, rows, 2, half, blocks)
      .select(2, 0)       // (batch, rows, half, blocks)
      .permute({0, 3, 1, 2});
}

/// (…, tokens, group, dims)
at::Tensor by_token(const at::Tensor& x, std::int64_t tokens) {
  return x.unflatten(-2, {tokens, -1});
}

/// Those scores of a (batch, rows, chunk) matrix that are of one token: a view
/// (batch, group, chunk).
at::Tensor same_token(const at::Tensor& matrix) {
  return by_token(matrix, matrix.size(2)).diagonal(0, 1, 3);
}

/// q_t · k_t: (batch, group, chunk).
at::Tensor same_token_scores(const at::Tensor& q, const at::Tensor& k) {
  return as_batch(times_tokens(q, k).sum(-1, true))
      .view({-1, k.size(-2), q.size(-2) / k.size(-2)})
      .transpose(1, 2);
}

/// The last token of each block in a view (blocks, half, dims).
at::Tensor last(const at::Tensor& x) { return x.narrow(1, x.size(1) - 1, 1); }

bool per_key(const at::Tensor& factor) {
  return factor.defined() && factor.size(-1) > 1;
}

/// Lets suffixes grow from blocks of 1 token to the whole chunk: each row of
/// `suffix`, one per token, starts as the value to scale.
void grow_suffix(const at::Tensor& suffix, const at::Tensor& factor) {
  at::Tensor total = factor;  // product over each block
  for (std::int64_t half = 1; half < factor.size(-2); half *= 2) {
    const Halves totals = halves(total, 1);
    halves(suffix, half).left.mul_(totals.right);
    total = totals.left * totals.right;
  }
}

void grow_prefix(const at::Tensor& prefix, const at::Tensor& factor) {
  const std::int64_t group = prefix.size(-2) / factor.size(-2);
  at::Tensor total = factor;
  for (std::int64_t half = 1; half < factor.size(-2); half *= 2) {
    const Halves totals = halves(total, 1);
    halves(prefix, half * group).right.mul_(totals.left);
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

at::Tensor scores_matrix(const at::Tensor& k, const at::Tensor& factor) {
  return factor.defined() ? decay_matrix(factor) : causal_matrix(k);
}

/// scores ⊙ D, in place.
void decay_scores(const at::Tensor& scores, const at::Tensor& matrix) {
  by_token(scores, matrix.size(-2)).mul_(matrix.unsqueeze(-2));
}

/// Σ_d q_t k_s, for one k without the cost of tiny matrix products.
at::Tensor block_scores(const at::Tensor& q, const at::Tensor& k) {
  if (k.size(1) > 1) return at::bmm(q, k.transpose(1, 2));
  return (q * k).sum(-1, true);
}

/// (…, rows of q, chunk), zero.
at::Tensor zero_scores(const at::Tensor& q, const at::Tensor& k) {
  std::vector<std::int64_t> shape = q.sizes().vec();
  shape.back() = k.size(-2);
  return at::zeros(shape, q.options());
}

IntraForward intra_forward_per_key(const at::Tensor& q, const at::Tensor& k,
                                   const at::Tensor& v,
                                   const at::Tensor& factor) {
  const std::int64_t chunk = k.size(-2);
  const std::int64_t group = q.size(-2) / chunk;
  const at::Tensor scores = zero_scores(q, k);
  const at::Tensor flat = as_batch(scores);
  same_token(flat).copy_(same_token_scores(q, k));
  const at::Tensor read = times_tokens(q, factor);
  const at::Tensor write = k.clone();
  at::Tensor total = factor;
  for (std::int64_t half = 1; half < chunk; half *= 2) {
    const Halves reads = halves(read, half * group);
    const Halves writes = halves(write, half);
    lower_left(flat, half)
        .copy_(block_scores(reads.right, writes.left)
                   .view({flat.size(0), -1, half * group, half}));
    const Halves totals = halves(total, 1);
    writes.left.mul_(totals.right);
    reads.right.mul_(totals.left);
    total = totals.left * totals.right;
  }
  return {batch_product(scores, v), read};
}

/// x becomes its sums from each row on. Each sum is made of what it contains,
/// never as the difference of two sums: a small one among large ones is exact.
const at::Tensor& sum_from_rows(const at::Tensor& x) {
  for (std::int64_t half = 1; half < x.size(-2); half *= 2) {
    const Halves parts = halves(x, half);
    parts.left.add_(parts.right.narrow(1, 0, 1));
  }
  return x;
}

/// x becomes its sums up to and including each row.
const at::Tensor& sum_up_to_rows(const at::Tensor& x) {
  for (std::int64_t half = 1; half < x.size(-2); half *= 2) {
    const Halves parts = halves(x, half);
    parts.right.add_(last(parts.left));
  }
  return x;
}

/// Per token u the sum of x[t][s] over s < u <= t; x (…, chunk, chunk) is
/// overwritten.
at::Tensor sum_around_tokens(const at::Tensor& x) {
  return sum_from_rows(x).tril_(-1).sum(-1, true);
}

/// What one level of intra_backward_per_key reads, of blocks of 2·half tokens,
/// and what it adds to.
struct Level {
  std::int64_t half;
  Halves reads, writes, prefix, suffix;
  Halves dq, dk, dgates;  ///< dgates undefined: not wanted
};

/// Adds what the pairs of a left and a right half give.
void add_level(const at::Tensor& dscores, const Level& level) {
  const std::int64_t half = level.half;
  const at::Tensor& read = level.reads.right;
  const at::Tensor& write = level.writes.left;
  const at::Tensor d =
      lower_left(dscores, half).contiguous().view({-1, read.size(1), half});
  const at::Tensor dread = half == 1 ? write * d : at::bmm(d, write);
  const at::Tensor dwrite =
      half == 1 ? sum_groups(read * d, 1) : at::bmm(d.transpose(1, 2), read);
  add_times_tokens(level.dq.right, dread, level.prefix.right);
  level.dk.left.addcmul_(dwrite, level.suffix.left);
  if (!level.dgates.left.defined()) return;
  add_sums_from(level.dgates.right, sum_groups(dread.mul_(read), half));
  if (half > 1) add_sums_before(level.dgates.left, dwrite.mul_(write));
}

IntraBackward intra_backward_per_key(const at::Tensor& q, const at::Tensor& k,
                                     const at::Tensor& v,
                                     const at::Tensor& dout,
                                     const at::Tensor& factor,
                                     bool want_gates) {
  const std::int64_t chunk = k.size(-2);
  const std::int64_t group = q.size(-2) / chunk;
  const at::Tensor dscores = batch_product_nt(dout, v);
  const at::Tensor dflat = as_batch(dscores);
  const at::Tensor scores = at::zeros_like(dscores);
  const at::Tensor flat = as_batch(scores);
  same_token(flat).copy_(same_token_scores(q, k));
  // dscores of one token, a row for each of q.
  const at::Tensor diagonal = same_token(dflat)
                                  .transpose(1, 2)
                                  .reshape(q.sizes().slice(0, 4))
                                  .unsqueeze(-1);
  const at::Tensor dq = times_tokens(diagonal, k);
  const at::Tensor dk = sum_groups(diagonal * q, chunk);
  const at::Tensor dgates = want_gates ? at::zeros_like(k) : at::Tensor();
  const at::Tensor read = times_tokens(q, factor);
  const at::Tensor write = k.clone();
  const at::Tensor prefix = factor.clone();
  const at::Tensor suffix = at::ones_like(factor);
  for (std::int64_t half = 1; half < chunk; half *= 2) {
    const Level level{half,
                      halves(read, half * group),
                      halves(write, half),
                      halves(prefix, half),
                      halves(suffix, half),
                      halves(dq, half * group),
                      halves(dk, half),
                      want_gates ? halves(dgates, half) : Halves{}};
    lower_left(flat, half)
        .copy_(block_scores(level.reads.right, level.writes.left)
                   .view({flat.size(0), -1, half * group, half}));
    add_level(dflat, level);
    // The totals of the halves, as long as they are unchanged.
    level.writes.left.mul_(last(level.prefix.right));
    level.suffix.left.mul_(last(level.prefix.right));
    level.reads.right.mul_(last(level.prefix.left));
    level.prefix.right.mul_(last(level.prefix.left));
  }
  return {dq,     dk,    batch_product_tn(scores, dout), dgates, write,
          prefix, suffix};
}

/// x with a last dimension: (batch, tokens, heads, dims).
at::Tensor with_dims(const at::Tensor& x) {
  return x.dim() == 3 ? x.unsqueeze(-1) : x;
}

/// How heads of x and state heads belong together: common · group are those of
/// x, common · sharing the state heads.
struct SharedHeads {
  std::int64_t common, sharing, group;
};

SharedHeads heads_of(const at::Tensor& x, std::int64_t state_heads) {
  const std::int64_t common = std::min(x.size(2), state_heads);
  return {common, state_heads / common, x.size(2) / common};
}

}  // namespace

at::Tensor to_chunks(const at::Tensor& x, std::int64_t heads,
                     std::int64_t first, std::int64_t tokens,
                     std::int64_t chunk, at::ScalarType type) {
  const at::Tensor source = with_dims(x);
  const SharedHeads of = heads_of(source, heads);
  const std::int64_t chunks = (tokens + chunk - 1) / chunk;
  const std::int64_t full = tokens / chunk;
  const std::int64_t rest = tokens - full * chunk;
  const at::Tensor out =
      at::empty({chunks, source.size(0), of.common, of.sharing, chunk, of.group,
                 source.size(3)},
                source.options().dtype(type));
  if (full > 0) {
    out.narrow(0, 0, full)
        .copy_(source.narrow(1, first, full * chunk)
                   .unflatten(2, {of.common, 1, of.group})
                   .unflatten(1, {full, chunk})
                   .permute({1, 0, 3, 4, 2, 5, 6}));
  }
  if (rest > 0) {
    const at::Tensor tail = out.select(0, full);
    tail.narrow(3, 0, rest)
        .copy_(source.narrow(1, first + full * chunk, rest)
                   .unflatten(2, {of.common, 1, of.group})
                   .permute({0, 2, 3, 1, 4, 5}));
    tail.narrow(3, rest, chunk - rest).zero_();
  }
  return out.view(
      {chunks, source.size(0), heads, chunk * of.group, source.size(3)});
}

void from_chunks(const at::Tensor& chunks, const at::Tensor& x,
                 std::int64_t first, std::int64_t tokens, std::int64_t chunk) {
  const at::Tensor target = with_dims(x);
  const SharedHeads of = heads_of(target, chunks.size(2));
  // (chunks, batch, common, chunk, group, dims)
  at::Tensor source = by_token(chunks, chunk);
  if (of.sharing > 1) {
    source = source.unflatten(2, {of.common, of.sharing}).sum(3);
  }
  const std::int64_t full = tokens / chunk;
  const std::int64_t rest = tokens - full * chunk;
  const at::Tensor grouped = target.unflatten(2, {of.common, of.group});
  if (full > 0) {
    grouped.narrow(1, first, full * chunk)
        .unflatten(1, {full, chunk})
        .copy_(source.narrow(0, 0, full).permute({1, 0, 3, 2, 4, 5}));
  }
  if (rest > 0) {
    grouped.narrow(1, first + full * chunk, rest)
        .copy_(
            source.select(0, full).narrow(2, 0, rest).permute({0, 2, 1, 3, 4}));
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
  if (!per_key(factor)) return times_tokens(x, prefix_products(factor));
  at::Tensor scaled = times_tokens(x, factor);
  grow_prefix(scaled, factor);
  return scaled;
}

at::Tensor times_tokens(const at::Tensor& x, const at::Tensor& y) {
  return (by_token(x, y.size(-2)) * y.unsqueeze(-2)).flatten(-3, -2);
}

void add_times_tokens(const at::Tensor& sum, const at::Tensor& x,
                      const at::Tensor& y) {
  by_token(sum, y.size(-2)).addcmul_(by_token(x, y.size(-2)), y.unsqueeze(-2));
}

at::Tensor sum_groups(const at::Tensor& x, std::int64_t tokens) {
  return x.size(-2) == tokens ? x : by_token(x, tokens).sum(-2);
}

IntraForward intra_forward(const at::Tensor& q, const at::Tensor& k,
                           const at::Tensor& v, const at::Tensor& factor) {
  if (per_key(factor)) return intra_forward_per_key(q, k, v, factor);
  const at::Tensor scores = batch_product_nt(q, k);
  decay_scores(scores, scores_matrix(k, factor));
  return {batch_product(scores, v), times_prefix(q, factor)};
}

IntraBackward intra_backward(const at::Tensor& q, const at::Tensor& k,
                             const at::Tensor& v, const at::Tensor& dout,
                             const at::Tensor& factor, bool want_gates) {
  if (per_key(factor)) {
    return intra_backward_per_key(q, k, v, dout, factor, want_gates);
  }
  const at::Tensor scores = batch_product_nt(q, k);
  const at::Tensor dscores = batch_product_nt(dout, v);
  const at::Tensor decay = scores_matrix(k, factor);
  decay_scores(scores, decay);
  at::Tensor dgates;
  if (want_gates) {
    dgates = sum_around_tokens(sum_groups(scores * dscores, k.size(-2)));
  }
  decay_scores(dscores, decay);
  IntraBackward result{batch_product(dscores, k),
                       batch_product_tn(dscores, q),
                       batch_product_tn(scores, dout),
                       dgates,
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

void add_sums_from(const at::Tensor& sum, const at::Tensor& x) {
  sum.add_(sum_from_rows(x));
}

void add_sums_before(const at::Tensor& sum, const at::Tensor& x) {
  const std::int64_t rows = x.size(-2) - 1;
  sum.narrow(-2, 1, rows).add_(sum_up_to_rows(x).narrow(-2, 0, rows));
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
