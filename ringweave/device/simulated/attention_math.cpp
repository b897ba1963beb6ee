#include "ringweave/device/simulated/attention_math.h"

#include <limits>

#include <ATen/ATen.h>

namespace ringweave::device::simulated {
namespace {

using at::Tensor;

/// One head of k or v for each of q's.
Tensor for_each_head(const Tensor& shared, const Tensor& q) {
  return shared.repeat_interleave(q.size(1) / shared.size(1), 1);
}

/// The sum over the group of heads that share one of `shared`.
Tensor sum_of_group(const Tensor& gradient, const Tensor& shared) {
  return gradient.unflatten(1, {shared.size(1), -1}).sum(2);
}

Tensor scores_of(const Attention& attention) {
  Tensor scores =
      at::matmul(attention.q,
                 for_each_head(attention.k, attention.q).transpose(-2, -1)) *
      attention.scale;
  if (attention.bias.defined()) scores += attention.bias;
  if (attention.hidden.defined()) {
    scores.masked_fill_(attention.hidden,
                        -std::numeric_limits<double>::infinity());
  }
  return scores;
}

}  // namespace

Attended attend(const Attention& attention) {
  const Tensor scores = scores_of(attention);
  const Tensor lse = scores.logsumexp(-1);
  const Tensor weights = (scores - lse.unsqueeze(-1)).exp();
  return {.out = at::matmul(weights, for_each_head(attention.v, attention.q)),
          .lse = lse};
}

AttentionGradients attend_backward(const Attention& attention,
                                   const Tensor& grad_out, const Tensor& out,
                                   const Tensor& lse) {
  const auto& [q, k, v, scale, hidden, bias] = attention;
  const Tensor weights = (scores_of(attention) - lse.unsqueeze(-1)).exp();
  const Tensor grad_weights =
      at::matmul(grad_out, for_each_head(v, q).transpose(-2, -1));
  const Tensor mean = (grad_out * out).sum(-1, true);
  const Tensor grad_scores = weights * (grad_weights - mean);
  const Tensor grad_k = at::matmul(grad_scores.transpose(-2, -1), q) * scale;
  const Tensor grad_v = at::matmul(weights.transpose(-2, -1), grad_out);
  return {.q = at::matmul(grad_scores, for_each_head(k, q)) * scale,
          .k = sum_of_group(grad_k, k),
          .v = sum_of_group(grad_v, v),
          .bias = grad_scores};
}

Tensor hidden_outside(std::int64_t rows, std::int64_t keys, std::int64_t shift,
                      std::int64_t left, std::int64_t right) {
  const Tensor own = at::arange(rows).unsqueeze(1) + shift;
  const Tensor key = at::arange(keys);
  Tensor hidden = at::zeros({rows, keys}, at::kBool);
  if (left >= 0) hidden |= key < own - left;
  if (right >= 0) hidden |= key > own + right;
  return hidden;
}

}  // namespace ringweave::device::simulated
