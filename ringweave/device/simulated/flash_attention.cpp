// torch's flash attention on the device, with the shapes, the limits and the
// quirks of the one on CUDA: 16-bit types, head_dim up to 256 in steps of 8,
// masks aligned at the bottom right, rows without keys of lse +inf.
//
// Not here: packed sequences, dropout, position biases, pages.
#include <cmath>
#include <limits>
#include <optional>
#include <tuple>

#include <ATen/ATen.h>
#include <torch/library.h>

#include "ringweave/device/simulated/attention_math.h"
#include "ringweave/device/simulated/unboxed_kernel.h"

namespace ringweave::device::simulated {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

/// Which keys a row sees, from that of its own at the bottom right.
struct Window {
  std::int64_t left = -1;  ///< -1: all
  std::int64_t right = -1;
};

Window window_of(bool is_causal, std::optional<std::int64_t> left,
                 std::optional<std::int64_t> right) {
  const Window window{left.value_or(-1), is_causal ? 0 : right.value_or(-1)};
  TORCH_CHECK(window.left >= -1 && window.right >= -1,
              "flash attention: got a window of ", window.left, " and ",
              window.right, "; want at least -1");
  return window;
}

void check_operand(const char* name, const Tensor& tensor, const Tensor& q) {
  TORCH_CHECK(tensor.scalar_type() == at::kHalf ||
                  tensor.scalar_type() == at::kBFloat16,
              "FlashAttention only support fp16 and bf16 data type, got ",
              tensor.scalar_type());
  TORCH_CHECK(tensor.scalar_type() == q.scalar_type(), name,
              " must have the same dtype as query");
  TORCH_CHECK(tensor.dim() == 4, name, " must have 4 dimensions");
  TORCH_CHECK(tensor.stride(-1) == 1, name,
              " must have contiguous last dimension");
  TORCH_CHECK(tensor.size(0) == q.size(0) && tensor.size(3) == q.size(3), name,
              " has other sizes than query");
}

/// (batch, length, heads, head_dim).
void check_operands(const Tensor& q, const Tensor& k, const Tensor& v) {
  check_operand("query", q, q);
  check_operand("key", k, q);
  check_operand("value", v, q);
  TORCH_CHECK(q.size(3) <= 256 && q.size(3) % 8 == 0,
              "flash attention: got head_dim ", q.size(3),
              "; want a multiple of 8, at most 256");
  TORCH_CHECK(k.sizes() == v.sizes(), "key and value differ in size");
  TORCH_CHECK(q.size(2) % k.size(2) == 0,
              "Number of heads in key/value must divide number of heads in "
              "query");
}

void check_unused(double dropout_p, const OptionalTensor& packed_q,
                  const OptionalTensor& packed_k) {
  TORCH_CHECK(dropout_p == 0, "simulated flash attention has no dropout");
  const auto given = [](const OptionalTensor& tensor) {
    return tensor.has_value() && tensor->defined();
  };
  TORCH_CHECK(!given(packed_q) && !given(packed_k),
              "simulated flash attention has no packed sequences");
}

Tensor heads_first(const Tensor& tensor) {
  return tensor.transpose(1, 2).to(at::kFloat);
}

/// Back to (batch, length, heads, head_dim) in 16 bit.
Tensor rounded(const Tensor& heads_first, const Tensor& like) {
  return heads_first.transpose(1, 2).to(like.scalar_type()).contiguous();
}

Attention attention_of(const Tensor& q, const Tensor& k, const Tensor& v,
                       std::optional<double> scale, const Window& window) {
  const std::int64_t rows = q.size(1);
  const std::int64_t keys = k.size(1);
  return {.q = heads_first(q),
          .k = heads_first(k),
          .v = heads_first(v),
          .scale = scale.value_or(1 / std::sqrt(double(q.size(3)))),
          .hidden = hidden_outside(rows, keys, keys - rows, window.left,
                                   window.right)};
}

Attended flash(const Tensor& q, const Tensor& k, const Tensor& v,
               std::optional<double> scale, const Window& window) {
  check_operands(q, k, v);
  const Attended exact = attend(attention_of(q, k, v, scale, window));
  const Tensor blind = exact.lse.isneginf();
  return {.out = rounded(exact.out.masked_fill(blind.unsqueeze(-1), 0), q),
          .lse = exact.lse.masked_fill(
              blind, std::numeric_limits<double>::infinity())};
}

std::tuple<Tensor, Tensor, Tensor> flash_gradients(
    const Tensor& grad_out, const Tensor& q, const Tensor& k, const Tensor& v,
    const Tensor& out, const Tensor& lse, std::optional<double> scale,
    const Window& window) {
  check_operands(q, k, v);
  TORCH_CHECK(grad_out.sizes() == q.sizes() && out.sizes() == q.sizes(),
              "flash attention: grad_out and out must have query's sizes");
  TORCH_CHECK(grad_out.scalar_type() == q.scalar_type() &&
                  out.scalar_type() == q.scalar_type(),
              "flash attention: grad_out and out must have query's dtype");
  TORCH_CHECK(
      lse.scalar_type() == at::kFloat &&
          lse.sizes() == at::IntArrayRef({q.size(0), q.size(2), q.size(1)}),
      "flash attention: got logsumexp of ", lse.sizes(),
      "; want fp32 of (batch, heads, rows)");
  const AttentionGradients exact =
      attend_backward(attention_of(q, k, v, scale, window),
                      heads_first(grad_out), heads_first(out), lse);
  return {rounded(exact.q, q), rounded(exact.k, k), rounded(exact.v, v)};
}

/// What CUDA's kernels return beside results: the state of dropout.
Tensor no_rng_state() { return at::zeros({2}, at::kUInt64); }
Tensor no_debug_mask(const Tensor& q) { return at::empty({0}, q.options()); }

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> forward(
    const Tensor& q, const Tensor& k, const Tensor& v,
    const OptionalTensor& cum_seq_q, const OptionalTensor& cum_seq_k,
    std::int64_t, std::int64_t, double dropout_p, bool is_causal,
    bool return_debug_mask, std::optional<double> scale,
    std::optional<std::int64_t> window_left,
    std::optional<std::int64_t> window_right, const OptionalTensor& seqused_k,
    const OptionalTensor& alibi_slopes, const OptionalTensor& block_table,
    std::optional<std::int64_t>) {
  check_unused(dropout_p, cum_seq_q, cum_seq_k);
  TORCH_CHECK(!return_debug_mask && !seqused_k && !alibi_slopes && !block_table,
              "simulated flash attention lacks what was asked for");
  const Attended result =
      flash(q, k, v, scale, window_of(is_causal, window_left, window_right));
  return {result.out, result.lse, no_rng_state(), at::zeros({}, at::kUInt64),
          no_debug_mask(q)};
}

std::tuple<Tensor, Tensor, Tensor> backward(
    const Tensor& grad_out, const Tensor& q, const Tensor& k, const Tensor& v,
    const Tensor& out, const Tensor& lse, const Tensor& cum_seq_q,
    const Tensor& cum_seq_k, std::int64_t, std::int64_t, double dropout_p,
    bool is_causal, const Tensor&, const Tensor&, std::optional<double> scale,
    std::optional<std::int64_t> window_left,
    std::optional<std::int64_t> window_right) {
  check_unused(dropout_p, cum_seq_q, cum_seq_k);
  return flash_gradients(grad_out, q, k, v, out, lse, scale,
                         window_of(is_causal, window_left, window_right));
}

std::tuple<Tensor, Tensor, Tensor, Tensor, std::int64_t, std::int64_t, Tensor,
           Tensor, Tensor>
scaled_forward(const Tensor& q, const Tensor& k, const Tensor& v,
               double dropout_p, bool is_causal, bool return_debug_mask,
               std::optional<double> scale) {
  check_unused(dropout_p, {}, {});
  TORCH_CHECK(!return_debug_mask,
              "simulated flash attention lacks what was asked for");
  const Attended result =
      flash(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), scale,
            window_of(is_causal, {}, {}));
  return {result.out.transpose(1, 2),
          result.lse,
          Tensor(),
          Tensor(),
          q.size(2),
          k.size(2),
          no_rng_state(),
          at::zeros({}, at::kUInt64),
          no_debug_mask(q)};
}

std::tuple<Tensor, Tensor, Tensor> scaled_backward(
    const Tensor& grad_out, const Tensor& q, const Tensor& k, const Tensor& v,
    const Tensor& out, const Tensor& lse, const Tensor& cum_seq_q,
    const Tensor& cum_seq_k, std::int64_t, std::int64_t, double dropout_p,
    bool is_causal, const Tensor&, const Tensor&, std::optional<double> scale) {
  check_unused(dropout_p, cum_seq_q, cum_seq_k);
  const auto [dq, dk, dv] =
      flash_gradients(grad_out.transpose(1, 2), q.transpose(1, 2),
                      k.transpose(1, 2), v.transpose(1, 2), out.transpose(1, 2),
                      lse, scale, window_of(is_causal, {}, {}));
  return {dq.transpose(1, 2), dk.transpose(1, 2), dv.transpose(1, 2)};
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  using torch::CppFunction;
  library.impl("_flash_attention_forward",
               CppFunction::makeFromBoxedFunction<&on_device<&forward>>());
  library.impl("_flash_attention_backward",
               CppFunction::makeFromBoxedFunction<&on_device<&backward>>());
  library.impl(
      "_scaled_dot_product_flash_attention",
      CppFunction::makeFromBoxedFunction<&on_device<&scaled_forward>>());
  library.impl(
      "_scaled_dot_product_flash_attention_backward",
      CppFunction::makeFromBoxedFunction<&on_device<&scaled_backward>>());
}

}  // namespace
}  // namespace ringweave::device::simulated
