// Attention of new tokens that follow those of a cache (cache.h): what rows.h
// does for a whole batch. Called by rows.cpp for a context with a cache.
#pragma once

#include <ATen/core/Tensor.h>

#include "ringweave/models/context.h"

namespace ringweave::models {

/// q, k, v: (1, tokens, …) of this rank. New keys and values go into the cache:
/// of tokens that are split, those of this rank. What is behind the window is
/// forgotten. Every rank must call it in the same order.
at::Tensor cached_softmax_attention(const at::Tensor& q, const at::Tensor& k,
                                    const at::Tensor& v,
                                    std::int64_t sliding_window,
                                    const Context& context);

/// The same with the states of the cache. Tokens that are not split exchange
/// nothing.
at::Tensor cached_linear_attention(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
    linear_attention::Decay decay, const at::Tensor& gates,
    const Context& context, const linear_attention::LinearOptions& options);

/// x: (1, tokens, channels) of this rank. The same with the tails of the cache.
at::Tensor cached_convolution(const at::Tensor& x, const at::Tensor& weight,
                              const at::Tensor& bias, const Context& context);

}  // namespace ringweave::models
