#include "ringweave/attention/composed_kernel.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include "ringweave/attention/tile_layout.h"
#include "ringweave/base/range.h"

namespace ringweave::attention {
namespace {

using schedule::Area;

/// Scores that lie in memory at a time.
constexpr std::int64_t kScores = std::int64_t{1} << 26;

/// Rows of all heads that share keys follow one another, so that keys are not
/// repeated: (batch, rows, heads, x) as (batch, kv_heads, group · rows, x).
at::Tensor by_kv_head(const at::Tensor& x, std::int64_t kv_heads) {
  return heads_first(x).reshape(
      {x.size(0), kv_heads, x.size(2) / kv_heads * x.size(1), x.size(3)});
}

/// The reverse: (batch, rows, heads, x).
at::Tensor by_row(const at::Tensor& x, std::int64_t rows) {
  return x.view({x.size(0), -1, rows, x.size(3)}).transpose(1, 2);
}

/// Some rows of a tile.
class TileRows {
 public:
  TileRows(const Tile& tile, const Range& rows)
      : tile_(tile),
        rows_(rows),
        q_(by_kv_head(of(tile.q), kv_heads())),
        k_(heads_first(tile.k)),
        v_(heads_first(tile.v)) {}

  Partial forward() const {
    const at::Tensor scores = this->scores();
    const at::Tensor lse = scores.logsumexp(-1);
    const at::Tensor weights = flat(scores.sub_(lse.unsqueeze(-1)).exp_());
    return {by_row(at::matmul(weights, v_), rows_.size()), lse};
  }

  /// `all_dk`, `all_dv` (batch, kv_heads, keys, head_dim) are added to.
  at::Tensor backward(const at::Tensor& grad_out, const at::Tensor& out,
                      const at::Tensor& lse, const at::Tensor& all_dk,
                      const at::Tensor& all_dv) const {
    const at::Tensor g = by_kv_head(of(grad_out), kv_heads());
    const at::Tensor delta =
        (g * by_kv_head(of(out), kv_heads())).sum(-1, true);
    const at::Tensor of_rows = lse.narrow(2, rows_.begin, rows_.size());
    const at::Tensor weights =
        flat(scores().sub_(of_rows.unsqueeze(-1)).exp_());
    all_dv.add_(at::matmul(weights.transpose(2, 3), g));
    const at::Tensor dscores = at::matmul(g, v_.transpose(2, 3))
                                   .sub_(delta)
                                   .mul_(weights)
                                   .mul_(tile_.scale);
    all_dk.add_(at::matmul(dscores.transpose(2, 3), q_));
    return by_row(at::matmul(dscores, k_), rows_.size());
  }

 private:
  std::int64_t kv_heads() const { return tile_.k.size(2); }
  at::Tensor of(const at::Tensor& x) const {
    return x.narrow(1, rows_.begin, rows_.size());
  }
  /// (batch, heads, rows, keys) as products want them.
  at::Tensor flat(const at::Tensor& scores) const {
    return scores.view({scores.size(0), kv_heads(), -1, scores.size(3)});
  }

  /// (batch, heads, rows, keys), -inf where a row sees no key.
  at::Tensor scores() const {
    const at::Tensor scores =
        at::matmul(q_, k_.transpose(2, 3))
            .mul_(tile_.scale)
            .view({q_.size(0), -1, rows_.size(), k_.size(2)});
    if (tile_.bias.defined()) {
      scores.add_(tile_.bias.narrow(0, rows_.begin, rows_.size()));
    }
    if (tile_.kind == Area::Kind::causal) {
      const at::Tensor hidden =
          at::ones({rows_.size(), k_.size(2)}, q_.options().dtype(at::kBool))
              .triu_(rows_.begin + 1);
      scores.masked_fill_(hidden, -std::numeric_limits<double>::infinity());
    }
    return scores;
  }

  const Tile& tile_;
  const Range rows_;
  const at::Tensor q_, k_, v_;
};

std::vector<Range> cut_rows(const Tile& tile) {
  const std::int64_t rows = tile.q.size(1);
  const std::int64_t each =
      tile.q.size(0) * tile.q.size(2) * tile.k.size(1);  // scores of a row
  const std::int64_t step = std::max<std::int64_t>(1, kScores / each);
  std::vector<Range> parts;
  for (std::int64_t begin = 0; begin < rows; begin += step) {
    parts.push_back({begin, std::min(begin + step, rows)});
  }
  return parts;
}

}  // namespace

Support ComposedKernel::supports(const TileKind& tile, const Area& area) const {
  if (tile.device.is_cpu() ||
      (tile.type != at::kDouble && tile.type != at::kFloat)) {
    return Support::none;
  }
  return bands_with_bias(area);
}

Partial ComposedKernel::forward(const Tile& tile) const {
  std::vector<at::Tensor> outs;
  std::vector<at::Tensor> lses;
  for (const Range& rows : cut_rows(tile)) {
    Partial part = TileRows(tile, rows).forward();
    outs.push_back(std::move(part.out));
    lses.push_back(std::move(part.lse));
  }
  if (outs.size() == 1) return {outs[0], lses[0]};
  return {at::cat(outs, 1), at::cat(lses, 2)};
}

TileGradients ComposedKernel::backward(const at::Tensor& grad_out,
                                       const Tile& tile, const at::Tensor& out,
                                       const at::Tensor& lse) const {
  const at::Tensor dk = at::zeros_like(heads_first(tile.k));
  const at::Tensor dv = at::zeros_like(heads_first(tile.v));
  std::vector<at::Tensor> dqs;
  for (const Range& rows : cut_rows(tile)) {
    dqs.push_back(TileRows(tile, rows).backward(grad_out, out, lse, dk, dv));
  }
  return {dqs.size() == 1 ? dqs[0] : at::cat(dqs, 1), heads_first(dk),
          heads_first(dv)};
}

}  // namespace ringweave::attention
