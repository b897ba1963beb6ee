// Softmax attention by its formula, in fp32 on the CPU.
#pragma once

#include <ATen/core/Tensor.h>

namespace ringweave::device::simulated {

/// Tensors are (batch, heads, length, head_dim) of fp32; q has as many heads as
/// k and v have, or a multiple: a group of q's heads shares one of theirs.
struct Attention {
  at::Tensor q;
  at::Tensor k;
  at::Tensor v;
  double scale;
  at::Tensor hidden = {};  ///< (rows, keys), true: the row doesn't see the key
  at::Tensor bias = {};    ///< (batch, heads, rows, keys), added to the scores
};

struct Attended {
  at::Tensor out;  ///< NaN in rows without keys
  at::Tensor lse;  ///< (batch, heads, rows), -inf in rows without keys
};
Attended attend(const Attention& attention);

struct AttentionGradients {
  at::Tensor q;
  at::Tensor k;
  at::Tensor v;
  at::Tensor bias;
};
/// `out` and `lse` may be of more keys than those here.
AttentionGradients attend_backward(const Attention& attention,
                                   const at::Tensor& grad_out,
                                   const at::Tensor& out,
                                   const at::Tensor& lse);

/// The (rows, keys) that a row may not see, by keys after (`right`) and before
/// (`left`) its own one, which is key row + `shift`; negative: any number.
at::Tensor hidden_outside(std::int64_t rows, std::int64_t keys,
                          std::int64_t shift, std::int64_t left,
                          std::int64_t right);

}  // namespace ringweave::device::simulated
