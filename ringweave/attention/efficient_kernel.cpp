#include "ringweave/attention/efficient_kernel.h"

#include <limits>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/Context.h>

#include "ringweave/attention/dispatched.h"
#include "ringweave/attention/tile_layout.h"

namespace ringweave::attention {
namespace {

using schedule::Area;

constexpr const char* kEfficientForward =
    "aten::_scaled_dot_product_efficient_attention";
constexpr const char* kEfficientBackward =
    "aten::_scaled_dot_product_efficient_attention_backward";
/// By the alignment that the kernel asks of fp32.
constexpr std::int64_t kEfficientHeadDims = 4;
/// Of a bias's rows in memory.
constexpr std::int64_t kBiasMultiple = 16;
/// CUDA's kernel wants the lse padded with rows; others don't.
constexpr std::int64_t kLseMultiple = 32;

/// (batch, tokens, heads, head_dim) as the op takes it.
at::Tensor op_layout(const at::Tensor& x) {
  return heads_first(padded(x, kEfficientHeadDims));
}

/// Keys or values once for each query head.
at::Tensor repeated(const at::Tensor& x, std::int64_t heads) {
  const std::int64_t group = heads / x.size(2);
  return op_layout(group == 1 ? x : x.repeat_interleave(group, 2));
}

/// Gradients of repeated keys: summed, in the caller's layout.
at::Tensor joined(const at::Tensor& x, const at::Tensor& like) {
  const at::Tensor heads = unpadded(heads_first(x), like.size(3));
  const std::int64_t kv_heads = like.size(2);
  return heads.size(2) == kv_heads ? heads
                                   : heads.unflatten(2, {kv_heads, -1}).sum(3);
}

/// Undefined: none.
at::Tensor padded_bias(const Tile& tile) {
  if (!tile.bias.defined()) return {};
  return unpadded(padded(tile.bias, kBiasMultiple), tile.k.size(1))
      .expand({tile.q.size(0), tile.q.size(2), -1, -1});
}

Arguments efficient_arguments(const Tile& tile) {
  return {{"query", op_layout(tile.q)},
          {"key", repeated(tile.k, tile.q.size(2))},
          {"value", repeated(tile.v, tile.q.size(2))},
          {"dropout_p", 0.0},
          // Aligned to the upper left by this op: squares mean the same to all.
          {"is_causal", tile.kind == Area::Kind::causal},
          {"scale", tile.scale}};
}

/// As the device's backward wants it.
at::Tensor padded_lse(const at::Tensor& lse) {
  const bool pads = !lse.is_xpu() && !at::globalContext().hasROCM();
  return (pads ? padded(lse, kLseMultiple,
                        std::numeric_limits<double>::infinity())
               : lse)
      .contiguous();
}

}  // namespace

Support EfficientKernel::supports(const TileKind& tile,
                                  const Area& area) const {
  if (tile.device.is_cpu() || tile.type != at::kFloat ||
      !has_operation(kEfficientForward, tile.device)) {
    return Support::none;
  }
  return bands_with_bias(area);
}

Partial EfficientKernel::forward(const Tile& tile) const {
  Arguments arguments = efficient_arguments(tile);
  if (const at::Tensor bias = padded_bias(tile); bias.defined()) {
    arguments["attn_bias"] = bias;
  } else {
    arguments["attn_bias"] = c10::IValue();
  }
  arguments["compute_log_sumexp"] = true;
  const auto results = call_operation(kEfficientForward, std::move(arguments));
  return {unpadded(heads_first(results[0]), tile.q.size(3)),
          unpadded(results[1], tile.q.size(1))};
}

TileGradients EfficientKernel::backward(const at::Tensor& grad_out,
                                        const Tile& tile, const at::Tensor& out,
                                        const at::Tensor& lse) const {
  Arguments arguments = efficient_arguments(tile);
  // One kernel reads grad_out by out's strides: both get the same.
  arguments["grad_out_"] =
      heads_first(padded(grad_out, kEfficientHeadDims).contiguous());
  arguments["out"] = heads_first(padded(out, kEfficientHeadDims).contiguous());
  arguments["logsumexp"] = padded_lse(lse);
  arguments["attn_bias"] = padded_bias(tile);
  // Of dropout, which there is none of.
  const at::Tensor random = at::zeros({}, tile.q.options().dtype(at::kLong));
  arguments["philox_seed"] = random;
  arguments["philox_offset"] = random;
  arguments["grad_input_mask"] = c10::List<bool>({true, true, true, false});
  const auto results = call_operation(kEfficientBackward, std::move(arguments));
  return {unpadded(heads_first(results[0]), tile.q.size(3)),
          joined(results[1], tile.k), joined(results[2], tile.v)};
}

}  // namespace ringweave::attention
