// torch's memory-efficient attention on the device, with the shapes, the limits
// and the quirks of the one on CUDA: fp32 too, no grouped heads, masks aligned
// at the top left, an lse that is padded to multiples of 32 rows, and NaN in
// rows without keys.
//
// Not here: dropout.
#include <array>
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

constexpr std::int64_t kLseStep = 32;

std::int64_t padded_rows(const Tensor& q) {
  return (q.size(2) + kLseStep - 1) / kLseStep * kLseStep;
}

void check_operand_of_efficient(const char* name, const Tensor& tensor,
                                const Tensor& q) {
  const at::ScalarType type = tensor.scalar_type();
  TORCH_CHECK(type == at::kHalf || type == at::kBFloat16 || type == at::kFloat,
              "efficient attention: got ", type, "; want fp16, bf16 or fp32");
  TORCH_CHECK(type == q.scalar_type(), name,
              " must have the same dtype as query");
  TORCH_CHECK(tensor.dim() == 4, name, " must have 4 dimensions");
  TORCH_CHECK(tensor.stride(-1) == 1, name,
              " must have contiguous last dimension");
  TORCH_CHECK(tensor.size(0) == q.size(0) && tensor.size(1) == q.size(1) &&
                  tensor.size(3) == q.size(3),
              "efficient attention: ", name, " of ", tensor.sizes(),
              " has another batch, heads or head_dim than query of ",
              q.sizes());
}

/// Rows of a bias have to begin at multiples of 16 bytes.
void check_bias(const Tensor& bias, const Tensor& q, const Tensor& k) {
  TORCH_CHECK(bias.scalar_type() == q.scalar_type(),
              "attn_bias must have the same dtype as query");
  TORCH_CHECK(bias.sizes() ==
                  at::IntArrayRef({q.size(0), q.size(1), q.size(2), k.size(2)}),
              "attn_bias has sizes ", bias.sizes(),
              "; want (batch, heads, rows, keys)");
  TORCH_CHECK(
      bias.stride(-1) == 1 && bias.stride(2) * bias.element_size() % 16 == 0 &&
          bias.stride(1) * bias.element_size() % 16 == 0,
      "attn_bias is not correctly aligned, got strides ", bias.strides());
}

/// Checks and converts. (batch, heads, length, head_dim).
Attention efficient_attention_of(const Tensor& q, const Tensor& k,
                                 const Tensor& v, const Tensor& bias,
                                 double dropout_p, bool is_causal,
                                 std::optional<double> scale) {
  TORCH_CHECK(dropout_p == 0, "simulated efficient attention has no dropout");
  check_operand_of_efficient("query", q, q);
  check_operand_of_efficient("key", k, q);
  check_operand_of_efficient("value", v, q);
  TORCH_CHECK(k.size(2) == v.size(2), "key and value differ in length");
  if (bias.defined()) check_bias(bias, q, k);
  return {.q = q.to(at::kFloat),
          .k = k.to(at::kFloat),
          .v = v.to(at::kFloat),
          .scale = scale.value_or(1 / std::sqrt(double(q.size(3)))),
          .hidden = is_causal ? hidden_outside(q.size(2), k.size(2), 0, -1, 0)
                              : Tensor(),
          .bias = bias.defined() ? bias.to(at::kFloat) : Tensor()};
}

/// The layout in memory is (batch, length, heads, head_dim).
Tensor in_memory_as_on_cuda(const Tensor& tensor, const Tensor& like) {
  return tensor.to(like.scalar_type())
      .transpose(1, 2)
      .contiguous()
      .transpose(1, 2);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> efficient_forward(
    const Tensor& q, const Tensor& k, const Tensor& v,
    const std::optional<Tensor>& bias, bool compute_log_sumexp,
    double dropout_p, bool is_causal, std::optional<double> scale) {
  const Attended exact = attend(efficient_attention_of(
      q, k, v, bias.value_or(Tensor()), dropout_p, is_causal, scale));
  Tensor lse =
      at::full({q.size(0), q.size(1), compute_log_sumexp ? padded_rows(q) : 0},
               std::numeric_limits<float>::infinity());
  if (compute_log_sumexp) lse.narrow(2, 0, q.size(2)).copy_(exact.lse);
  return {in_memory_as_on_cuda(exact.out, q), lse, at::zeros({}, at::kLong),
          at::zeros({}, at::kLong)};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> efficient_backward(
    const Tensor& grad_out, const Tensor& q, const Tensor& k, const Tensor& v,
    const Tensor& bias, const Tensor& out, const Tensor& lse, const Tensor&,
    const Tensor&, double dropout_p, std::array<bool, 4> wanted, bool is_causal,
    std::optional<double> scale) {
  const Attention attention =
      efficient_attention_of(q, k, v, bias, dropout_p, is_causal, scale);
  TORCH_CHECK(grad_out.sizes() == q.sizes() && out.sizes() == q.sizes(),
              "efficient attention: grad_out and out must have query's sizes");
  TORCH_CHECK(lse.scalar_type() == at::kFloat &&
                  lse.sizes() ==
                      at::IntArrayRef({q.size(0), q.size(1), padded_rows(q)}),
              "efficient attention: got logsumexp of ", lse.sizes(),
              "; want fp32 of (batch, heads, rows), rows padded to ",
              padded_rows(q));
  const AttentionGradients exact =
      attend_backward(attention, grad_out.to(at::kFloat), out.to(at::kFloat),
                      lse.narrow(2, 0, q.size(2)));
  const bool of_bias = wanted[3] && bias.defined();
  return {in_memory_as_on_cuda(exact.q, q), in_memory_as_on_cuda(exact.k, k),
          in_memory_as_on_cuda(exact.v, v),
          of_bias ? exact.bias.to(bias.scalar_type()) : Tensor()};
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  using torch::CppFunction;
  library.impl(
      "_scaled_dot_product_efficient_attention",
      CppFunction::makeFromBoxedFunction<&on_device<&efficient_forward>>());
  library.impl(
      "_scaled_dot_product_efficient_attention_backward",
      CppFunction::makeFromBoxedFunction<&on_device<&efficient_backward>>());
}

}  // namespace
}  // namespace ringweave::device::simulated
