// The sums of a short convolution, over the tokens of one rank.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/convolution/convolution_plan.h"

namespace ringweave::convolution {

/// Of a piece's tokens: those that see its halo, the others, or all.
enum class Part { first, rest, all };

/// What all pieces of a rank share; x and the table are contiguous.
struct Operands {
  at::Tensor x;      ///< (batch, tokens, channels)
  at::Tensor table;  ///< (batch, rows, channels), of x's type
  at::Tensor taps;   ///< (width, channels), the oldest first; of the sums' type
  at::Tensor bias;   ///< (channels), or undefined
};

/// Writes the outputs of these tokens of all pieces into `out`, which is like
/// x. Part::rest does not look at the table.
void convolve(const Operands& in, const std::vector<Piece>& pieces, Part part,
              const at::Tensor& out);

/// From the gradient of the outputs (contiguous, like x), in the sums' type:
/// writes the gradient of the halos into `dtable` (batch, rows, channels).
void halo_gradients(const at::Tensor& dout, const at::Tensor& taps,
                    const std::vector<Piece>& pieces, const at::Tensor& dtable);
/// Writes that of the rank's own tokens into `dx` (batch, tokens, channels).
void token_gradients(const at::Tensor& dout, const at::Tensor& taps,
                     const std::vector<Piece>& pieces, const at::Tensor& dx);

/// Of all tokens of this rank: (width, channels), and (channels).
struct WeightGradients {
  at::Tensor taps;
  at::Tensor bias;
};
WeightGradients weight_gradients(const at::Tensor& dout, const Operands& in,
                                 const std::vector<Piece>& pieces);

}  // namespace ringweave::convolution
