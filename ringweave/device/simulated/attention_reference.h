// Softmax attention and its gradients in fp64, row by row, for tests.
#pragma once

#include <functional>

#include <ATen/ATen.h>

namespace ringweave::device::simulated {

/// Whether row `row` sees key `key`.
using Sees = std::function<bool(std::int64_t row, std::int64_t key)>;

struct Reference {
  at::Tensor out;  ///< (batch, heads, rows, head_dim)
  at::Tensor lse;  ///< (batch, heads, rows)
};

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

/// All are (batch, heads, length, head_dim) in fp64; `bias` (…, rows, keys).
inline Reference reference(const at::Tensor& q, const at::Tensor& k,
                           const at::Tensor& v, const at::Tensor& bias) {
  const std::int64_t group = q.size(1) / k.size(1);
  const at::Tensor each_k = k.repeat_interleave(group, 1);
  const at::Tensor each_v = v.repeat_interleave(group, 1);
  const double scale = 1 / std::sqrt(double(q.size(3)));
  const at::Tensor scores =
      at::einsum("bhid,bhjd->bhij", {q, each_k}) * scale + bias;
  return {.out = at::einsum("bhij,bhjd->bhid", {scores.softmax(-1), each_v}),
          .lse = scores.logsumexp(-1)};
}

}  // namespace ringweave::device::simulated
