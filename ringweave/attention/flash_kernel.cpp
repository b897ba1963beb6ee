#include "ringweave/attention/flash_kernel.h"

#include <optional>
#include <utility>

#include <ATen/ATen.h>

#include "ringweave/attention/dispatched.h"
#include "ringweave/attention/tile_layout.h"
#include "ringweave/base/error.h"

namespace ringweave::attention {
namespace {

using schedule::Area;
using schedule::Band;

constexpr const char* kFlashForward = "aten::_flash_attention_forward";
constexpr const char* kFlashBackward = "aten::_flash_attention_backward";
constexpr std::int64_t kMaxHeadDim = 256;
constexpr std::int64_t kFlashHeadDims = 8;
constexpr std::int64_t kOpen = -1;

/// Row i sees the keys from i + keys - rows - left to i + keys - rows + right;
/// kOpen: all on that side.
struct Window {
  std::int64_t left = kOpen;
  std::int64_t right = kOpen;
};

/// nullopt: a band that no window says.
std::optional<Window> window_of(const Band& band, std::int64_t rows,
                                std::int64_t keys) {
  if (band.row_stride != band.key_stride) return std::nullopt;
  const std::int64_t stride = band.row_stride;
  Window window;
  if (band.low > -stride * (rows - 1)) {  // else no pair is below it
    // The first key of row i is i + ceil(low / stride).
    window.left = keys - rows + floor_div(-band.low, stride);
    if (window.left < 0) return std::nullopt;
  }
  if (band.high < stride * (keys - 1)) {
    window.right = floor_div(band.high, stride) - (keys - rows);
    if (window.right < 0) return std::nullopt;
  }
  return window;
}

/// What both directions are told.
Arguments flash_arguments(const Tile& tile) {
  const std::int64_t rows = tile.q.size(1);
  const std::int64_t keys = tile.k.size(1);
  ensure(!tile.bias.defined(), "a bias for flash attention");
  Arguments arguments = {
      {"query", padded(tile.q, kFlashHeadDims)},
      {"key", padded(tile.k, kFlashHeadDims)},
      {"value", padded(tile.v, kFlashHeadDims)},
      {"max_q", rows},
      {"max_k", keys},
      {"dropout_p", 0.0},
      // Aligned to the lower right by this op: squares mean the same to all.
      {"is_causal", tile.kind == Area::Kind::causal},
      {"scale", tile.scale}};
  if (tile.kind == Area::Kind::band) {
    const auto window = window_of(tile.band, rows, keys);
    ensure(window.has_value(), "a band that flash attention does not take");
    arguments["window_size_left"] = window->left;
    arguments["window_size_right"] = window->right;
  }
  return arguments;
}

}  // namespace

Support FlashKernel::supports(const TileKind& tile, const Area& area) const {
  if (tile.device.is_cpu() ||
      (tile.type != at::kBFloat16 && tile.type != at::kHalf) ||
      tile.head_dim > kMaxHeadDim ||
      !has_operation(kFlashForward, tile.device) ||
      (area.kind == Area::Kind::band &&
       !window_of(area.band, area.rows.size(), area.keys.size()))) {
    return Support::none;
  }
  return Support::direct;
}

Partial FlashKernel::forward(const Tile& tile) const {
  Arguments arguments = flash_arguments(tile);
  arguments["cum_seq_q"] = arguments["cum_seq_k"] = c10::IValue();
  arguments["return_debug_mask"] = false;
  const auto results = call_operation(kFlashForward, std::move(arguments));
  return {unpadded(results[0], tile.q.size(3)), regular_lse(results[1])};
}

TileGradients FlashKernel::backward(const at::Tensor& grad_out,
                                    const Tile& tile, const at::Tensor& out,
                                    const at::Tensor& lse) const {
  Arguments arguments = flash_arguments(tile);
  // One kernel reads grad_out by out's strides: both get the same.
  arguments["grad_out"] = padded(grad_out, kFlashHeadDims).contiguous();
  arguments["out"] = padded(out, kFlashHeadDims).contiguous();
  arguments["logsumexp"] = lse.contiguous();
  arguments["cum_seq_q"] = arguments["cum_seq_k"] = at::Tensor();
  // Of dropout, which there is none of.
  const at::Tensor random = at::zeros({2}, tile.q.options().dtype(at::kLong));
  arguments["rng_state"] = random;
  arguments["unused"] = random;
  const auto results = call_operation(kFlashBackward, std::move(arguments));
  const std::int64_t dim = tile.q.size(3);
  return {unpadded(results[0], dim), unpadded(results[1], dim),
          unpadded(results[2], dim)};
}

}  // namespace ringweave::attention
