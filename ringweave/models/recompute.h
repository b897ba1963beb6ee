// Activations that backward computes again instead of keeping them.
#pragma once

#include <functional>

#include <ATen/core/Tensor.h>

namespace ringweave::models {

/// Which activations of a model's layers backward computes again.
enum class Recompute {
  none,
  mlp,   ///< those of each MLP and its norm: no message is sent again
  block  ///< all but the layers' inputs: the mixers' exchanges run again
};

/// x → a tensor. What it uses beside x must outlive the autograd graph; weights
/// among that are leaves, into whose gradients backward adds.
using Block = std::function<at::Tensor(const at::Tensor&)>;

/// block(x), with the same bits and gradients, but of all that the block
/// computes only x is kept: backward calls the block once more. A block that
/// exchanges messages does so again there, so every rank must recompute the
/// same blocks. Calls the block alone where no gradients are recorded. Throws
/// InvalidArgument in a backward that records gradients.
at::Tensor recomputed(const Block& block, const at::Tensor& x);

}  // namespace ringweave::models
