// Attention of a batch whose rows have documents of their own.
//
// Rows with the same documents go through a layer together, as they do in a
// batch without documents; others one after the other, each with its own
// exchange. So documents cost up to as many exchanges, of rows in place of
// batches, and a plan for each such group of rows and step.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/attention/attention.h"
#include "ringweave/base/range.h"
#include "ringweave/convolution/convolution.h"
#include "ringweave/linear_attention/linear_attention.h"

namespace ringweave::models {

struct Context;

/// The places of a row, in 1 … tokens, at which documents start; sorted. One at
/// `tokens` says that the label of the last token is of another document.
using Borders = std::vector<std::int64_t>;

/// What the layers exchange under one mask.
struct Plans {
  /// By sliding window (ModelConfig::sliding_window). Empty without softmax
  /// layers.
  std::map<std::int64_t, std::shared_ptr<const attention::AttentionPlan>>
      attention;
  std::shared_ptr<const linear_attention::LinearPlan> linear;  ///< or null
  /// Of the short convolutions of linear layers, or null.
  std::shared_ptr<const convolution::ConvolutionPlan> convolution;
};

/// Consecutive rows with the same documents.
struct RowPlans {
  Range rows;
  Plans plans;
};

/// attention::attention() of all rows; or, where the context has a cache, of
/// new tokens that follow those in it. Every rank must call it, and its
/// backward, in the same order.
at::Tensor softmax_attention(const at::Tensor& q, const at::Tensor& k,
                             const at::Tensor& v, std::int64_t sliding_window,
                             const Context& context);

/// linear_attention::linear_attention() of all rows, without states from
/// outside; or, where the context has a cache, from its states. Every rank must
/// call it, and its backward, in the same order.
at::Tensor linear_attention(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
    linear_attention::Decay decay, const at::Tensor& gates,
    const Context& context,
    const linear_attention::LinearOptions& options = {});

/// convolution::causal_convolution() of all rows, x (batch, tokens, channels),
/// in a model whose config has convolutions of the weight's width; or, where
/// the context has a cache, from the inputs that it keeps. A layer has at most
/// one. Every rank must call it, and its backward, in the same order.
at::Tensor short_convolution(const at::Tensor& x, const at::Tensor& weight,
                             const at::Tensor& bias, const Context& context);

}  // namespace ringweave::models
