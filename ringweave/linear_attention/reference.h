// For tests: linear attention as a plain recurrence over tokens, on one device,
// made of differentiable operations.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "ringweave/linear_attention/linear_attention.h"

namespace ringweave::linear_attention::reference {

struct Result {
  at::Tensor out;
  at::Tensor final_state;
};

/// Arguments as of linear_attention(), for all tokens; `state` undefined: zero.
inline Result recurrence(const at::Tensor& q, const at::Tensor& k,
                         const at::Tensor& v, Decay decay,
                         const at::Tensor& gates, const at::Tensor& state,
                         const schedule::Mask& mask, double scale) {
  const std::int64_t tokens = q.size(1);
  const std::vector<std::int64_t>& starts = mask.document_offsets();
  at::Tensor s = state.defined()
                     ? state
                     : at::zeros({q.size(0), q.size(2), q.size(3), v.size(3)},
                                 q.options());
  if (!mask.is_causal()) {
    s = s + at::einsum("bthd,bthe->bhde", {k, v});
    return {at::einsum("bthd,bhde->bthe", {q, s}) * scale, s};
  }
  std::vector<at::Tensor> out;
  for (std::int64_t t = 0; t < tokens; ++t) {
    const bool reset =
        t > 0 && std::find(starts.begin(), starts.end(), t) != starts.end();
    if (reset) {
      s = s * 0.0;
    } else if (decay == Decay::constant) {
      s = s * gates.exp().view({1, -1, 1, 1});
    } else if (decay == Decay::per_head) {
      s = s * gates.select(1, t).exp().unsqueeze(-1).unsqueeze(-1);
    } else if (decay == Decay::per_key) {
      s = s * gates.select(1, t).exp().unsqueeze(-1);
    }
    s = s + k.select(1, t).unsqueeze(-1) * v.select(1, t).unsqueeze(-2);
    out.push_back((q.select(1, t).unsqueeze(-1) * s).sum(-2) * scale);
  }
  return {out.empty() ? at::zeros_like(v) : at::stack(out, 1), s};
}

/// max|a - b| <= tolerance · max(1, max|b|), and the same shape.
inline testing::AssertionResult close(const at::Tensor& a, const at::Tensor& b,
                                      double tolerance) {
  if (a.sizes() != b.sizes()) {
    return testing::AssertionFailure() << "shapes differ";
  }
  if (a.numel() == 0) return testing::AssertionSuccess();
  const at::Tensor want = b.detach().to(at::kDouble);
  const double error =
      (a.detach().to(at::kDouble) - want).abs().max().item<double>();
  const double bound =
      tolerance * std::max(1.0, want.abs().max().item<double>());
  if (error <= bound) return testing::AssertionSuccess();  // false for NaN
  return testing::AssertionFailure()
         << "error " << error << ", allowed " << bound;
}

/// A copy that gradients flow to.
inline at::Tensor leaf(const at::Tensor& x) {
  return x.defined() ? x.detach().clone().set_requires_grad(true) : x;
}

}  // namespace ringweave::linear_attention::reference
