// One more token of each of several sequences, whose last inputs are on one
// rank.
#pragma once

#include <ATen/core/Tensor.h>

namespace ringweave::convolution {

/// As causal_convolution() of sequences of one token each: x (sequences,
/// channels); weight, bias as there. `tails`: (sequences, width - 1, channels)
/// in the type of x, the inputs before the tokens; becomes those behind them.
/// Returns (sequences, channels). No gradients, no messages.
at::Tensor advance(const at::Tensor& x, const at::Tensor& weight,
                   const at::Tensor& bias, const at::Tensor& tails);

}  // namespace ringweave::convolution
