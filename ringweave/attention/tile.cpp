#include "ringweave/attention/tile.h"

#include <limits>
#include <optional>

#include <ATen/ATen.h>

#include "ringweave/base/error.h"

namespace ringweave::attention {
namespace {

/// The mask of a banded tile as the kernel takes it: (rows, keys), 0 or -inf,
/// of the kernel's own type (another type gives wrong numbers without an
/// error).
std::optional<at::Tensor> additive_mask(const LocalTile& tile,
                                        const at::TensorOptions& options) {
  if (tile.kind != LocalTile::Kind::masked) return {};
  const std::int64_t rows = tile.rows.size();
  at::Tensor bounds = at::empty({2, rows, 1}, at::kLong);
  auto* begin = bounds.mutable_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < rows; ++i) {
    begin[i] = tile.intervals[i].begin;
    begin[rows + i] = tile.intervals[i].end;
  }
  bounds = bounds.to(options.device());
  const at::Tensor keys =
      at::arange(tile.keys.size(), options.dtype(at::kLong));
  const at::Tensor hidden = (keys < bounds[0]).logical_or_(keys >= bounds[1]);
  return at::zeros({rows, tile.keys.size()}, options)
      .masked_fill_(hidden, -std::numeric_limits<double>::infinity());
}

/// (batch, tokens, heads, head_dim) → (batch, heads, tokens, head_dim), in the
/// type that the kernel computes in.
at::Tensor for_kernel(const at::Tensor& x) {
  return x.to(accumulate_type(x.scalar_type())).transpose(1, 2);
}

}  // namespace

at::ScalarType accumulate_type(at::ScalarType type) {
  return type == at::kDouble ? at::kDouble : at::kFloat;
}

Partial tile_forward(const at::Tensor& q, const at::Tensor& k,
                     const at::Tensor& v, const LocalTile& tile, double scale) {
  ensure(q.numel() > 0 && k.numel() > 0, "empty attention tile");
  const at::Tensor query = for_kernel(q);
  // Causal is aligned to the upper left by this kernel, to the lower right by
  // others: square tiles mean the same to all.
  auto [out, lse] = at::_scaled_dot_product_flash_attention_for_cpu(
      query, for_kernel(k), for_kernel(v), /*dropout_p=*/0.0,
      tile.kind == LocalTile::Kind::causal,
      additive_mask(tile, query.options()), scale);
  return {out.transpose(1, 2), lse};
}

TileGradients tile_backward(const at::Tensor& grad_out, const at::Tensor& q,
                            const at::Tensor& k, const at::Tensor& v,
                            const at::Tensor& out, const at::Tensor& lse,
                            const LocalTile& tile, double scale) {
  ensure(q.numel() > 0 && k.numel() > 0, "empty attention tile");
  const at::Tensor query = for_kernel(q);
  auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
      for_kernel(grad_out), query, for_kernel(k), for_kernel(v),
      for_kernel(out), lse, /*dropout_p=*/0.0,
      tile.kind == LocalTile::Kind::causal,
      additive_mask(tile, query.options()), scale);
  return {dq.transpose(1, 2), dk.transpose(1, 2), dv.transpose(1, 2)};
}

void merge_into(const Partial& total, const Partial& part) {
  const at::Tensor lse = at::logaddexp(total.lse, part.lse);
  const at::Tensor finite = lse.masked_fill(lse.isinf(), 0.0);
  const auto weight = [&](const at::Tensor& own) {
    // (batch, heads, rows) → (batch, rows, heads, 1)
    return (own - finite).exp_().transpose(1, 2).unsqueeze(-1);
  };
  total.out.mul_(weight(total.lse)).addcmul_(part.out, weight(part.lse));
  total.lse.copy_(lse);
}

}  // namespace ringweave::attention
