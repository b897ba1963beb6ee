#include "ringweave/attention/cpu_flash_kernel.h"

#include <optional>

#include <ATen/ATen.h>

#include "ringweave/attention/tile_layout.h"
#include "ringweave/base/error.h"

namespace ringweave::attention {
namespace {

using schedule::Area;

std::optional<at::Tensor> bias_of(const Tile& tile) {
  return tile.bias.defined() ? std::optional(tile.bias) : std::nullopt;
}

/// The op divides by the number of rows and of keys, and takes a bias of
/// another type for numbers of its own type.
void check(const Tile& tile) {
  ensure(tile.q.numel() > 0 && tile.k.numel() > 0, "empty attention tile");
  ensure(
      !tile.bias.defined() || tile.bias.scalar_type() == tile.q.scalar_type(),
      "a bias of another type than the tile's");
}

}  // namespace

Support CpuFlashKernel::supports(const TileKind& tile, const Area& area) const {
  if (!tile.device.is_cpu() ||
      (tile.type != at::kDouble && tile.type != at::kFloat)) {
    return Support::none;
  }
  return bands_with_bias(area);
}

// Causal is aligned to the upper left by this op, to the lower right by others:
// square tiles mean the same to all.
Partial CpuFlashKernel::forward(const Tile& tile) const {
  check(tile);
  auto [out, lse] = at::_scaled_dot_product_flash_attention_for_cpu(
      heads_first(tile.q), heads_first(tile.k), heads_first(tile.v),
      /*dropout_p=*/0.0, tile.kind == Area::Kind::causal, bias_of(tile),
      tile.scale);
  return {heads_first(out), lse};
}

TileGradients CpuFlashKernel::backward(const at::Tensor& grad_out,
                                       const Tile& tile, const at::Tensor& out,
                                       const at::Tensor& lse) const {
  check(tile);
  auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
      heads_first(grad_out), heads_first(tile.q), heads_first(tile.k),
      heads_first(tile.v), heads_first(out), lse, /*dropout_p=*/0.0,
      tile.kind == Area::Kind::causal, bias_of(tile), tile.scale);
  return {heads_first(dq), heads_first(dk), heads_first(dv)};
}

}  // namespace ringweave::attention
