// What a family of linear layers begins with: queries, keys and values of its
// tokens.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/models/mixer.h"

namespace ringweave::models {

/// Projections, and the kernels of the short convolutions if the config has
/// `linear.convolution`: self_attn.{q,k,v}_conv1d.weight.
struct LinearProjections : Projections {
  /// Of q, k and v: (channels, 1, convolution) each. Empty: there are none.
  std::vector<at::Tensor> convolutions;
};

LinearProjections make_linear_projections(const ModelConfig& config,
                                          const std::string& prefix,
                                          ParameterMaker& maker);
LinearProjections make_linear_projections(const ModelConfig& config,
                                          const std::string& prefix,
                                          ParameterMaker& maker,
                                          std::int64_t key_dim);

/// Draws the weight (channels, 1, width) or the bias (channels) of a
/// convolution of that width as torch's Conv1d does.
at::Tensor make_convolution(const std::string& name, at::IntArrayRef shape,
                            std::int64_t width, ParameterMaker& maker);

/// (batch, tokens, heads of each, size of its heads).
struct Qkv {
  at::Tensor q, k, v;
};

/// Projects x (batch, tokens of this rank, hidden). With convolutions SiLU
/// follows, as in flash-linear-attention; one exchange serves all three. Every
/// rank must call it, and its backward, in the same order.
Qkv project_qkv(const at::Tensor& x, const LinearProjections& weights,
                const ModelConfig& config, const Context& context);

}  // namespace ringweave::models
