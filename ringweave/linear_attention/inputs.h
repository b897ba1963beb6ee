// What all segments of a rank share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/base/range.h"
#include "ringweave/linear_attention/linear_attention.h"

namespace ringweave::linear_attention {

/// Tensors as in linear_attention().
///
/// A state head is a distinct (k, v, decay): there are as many as the least
/// common multiple of their head counts. q has a multiple of that, whose groups
/// share a state, or a divisor.
struct Inputs {
  at::Tensor q, k, v, gates;
  Decay decay = Decay::none;
  double scale = 1;
  bool causal = true;
  at::ScalarType type = at::kFloat;  ///< of states and of all arithmetic

  std::int64_t batch() const { return q.size(0); }
  std::int64_t state_heads() const;
  std::int64_t out_heads() const { return std::max(q.size(2), state_heads()); }
  std::int64_t key_dim() const { return q.size(3); }
  std::int64_t value_dim() const { return v.size(3); }
  std::vector<std::int64_t> state_shape() const {
    return {batch(), state_heads(), key_dim(), value_dim()};
  }
  at::TensorOptions state_options() const { return q.options().dtype(type); }
};

/// Where a segment lies among the rank's tokens, and which of its tokens, from
/// 0, start a document.
struct SegmentTokens {
  Range local;
  std::vector<std::int64_t> resets;
};

}  // namespace ringweave::linear_attention
