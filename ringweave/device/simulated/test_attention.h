// Softmax attention in fp64 on the CPU, and what to compare with it.
#pragma once

#include <cmath>
#include <functional>
#include <string>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace ringweave::device::simulated {

/// Whether row `row` sees key `key`.
using Sees = std::function<bool(std::int64_t row, std::int64_t key)>;

/// (rows, keys), 0 or -inf.
inline at::Tensor mask_of(std::int64_t rows, std::int64_t keys,
                          const Sees& sees) {
  at::Tensor mask = at::zeros({rows, keys}, at::kDouble);
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t key = 0; key < keys; ++key) {
      if (!sees(row, key)) mask[row][key] = -INFINITY;
    }
  }
  return mask;
}

/// Inputs, (batch, heads, length, head_dim), and results in fp64, of a loss
/// that is the sum of out · grad_out.
struct Reference {
  /// `type`: to which the inputs are rounded.
  Reference(at::IntArrayRef q_sizes, at::IntArrayRef k_sizes,
            at::ScalarType type) {
    at::manual_seed(7);
    const auto rounded = [&](at::IntArrayRef sizes) {
      return at::randn(sizes, at::kDouble).to(type).to(at::kDouble);
    };
    q = rounded(q_sizes).requires_grad_();
    k = rounded(k_sizes).requires_grad_();
    v = rounded(k_sizes).requires_grad_();
    grad_out = rounded(q_sizes);
  }

  void run(const at::Tensor& bias) {
    const std::int64_t group = q.size(1) / k.size(1);
    const at::Tensor each_k = k.repeat_interleave(group, 1);
    const at::Tensor each_v = v.repeat_interleave(group, 1);
    const double scale = 1 / std::sqrt(double(q.size(3)));
    const at::Tensor scores =
        at::einsum("bhid,bhjd->bhij", {q, each_k}) * scale + bias;
    out = at::einsum("bhij,bhjd->bhid", {scores.softmax(-1), each_v});
    lse = scores.logsumexp(-1).detach();
    out.backward(grad_out);
    out = out.detach();
  }

  at::Tensor q, k, v, grad_out;
  at::Tensor out, lse;
};

/// max|got - want| <= tolerance · max(1, max|want|).
inline void expect_near(const std::string& what, const at::Tensor& got,
                        const at::Tensor& want, double tolerance) {
  ASSERT_EQ(got.sizes(), want.sizes()) << what;
  const at::Tensor exact = got.cpu().to(at::kDouble);
  const double most = std::max(1.0, want.abs().max().item<double>());
  EXPECT_LE((exact - want).abs().max().item<double>(), tolerance * most)
      << what;
}

inline double tolerance_of(at::ScalarType type) {
  if (type == at::kFloat) return 1e-5;
  return type == at::kHalf ? 2e-3 : 1.5e-2;
}

}  // namespace ringweave::device::simulated
