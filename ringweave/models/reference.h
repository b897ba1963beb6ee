// For tests: the model again, on one device, by the plain definitions: a full
// matrix of attention weights, and a loop over tokens for linear layers.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/models/mixer.h"
#include "ringweave/models/parameters.h"

namespace ringweave::models::test {

using Weights = std::map<std::string, at::Tensor>;

/// What the reference of a linear layer computes with.
struct ReferenceInput {
  const ModelConfig& config;
  std::int64_t layer;
  const Weights& weights;
  const std::string& prefix;  ///< of the layer's weights
  const at::Tensor& input;    ///< (batch, tokens, hidden)
  /// (batch, heads, tokens, dim of each head); undefined for a family with
  /// values of its own size.
  at::Tensor q, k, v;

  const at::Tensor& weight(const std::string& name) const {
    return weights.at(prefix + name);
  }
};

/// Returns (batch, heads, tokens, head_dim), before the output's projection.
using ReferenceMixer = at::Tensor(const ReferenceInput& input);

/// S_t = diag(exp(g_t)) S_{t-1} + k_t v_tᵀ, o_t = S_tᵀ q_t; g broadcasts to
/// (batch, heads, tokens, dim).
at::Tensor recurrence(const at::Tensor& q, const at::Tensor& k,
                      const at::Tensor& v, const at::Tensor& g);

/// For a family from outside.
void add_reference(const std::string& kind, ReferenceMixer* reference);

/// Mean cross entropy of sequences (batch, tokens + 1) under the parameters.
/// With borders of documents each document goes through the model by itself.
at::Tensor reference_loss(const ModelConfig& config,
                          const std::vector<Parameter>& parameters,
                          const at::Tensor& sequences,
                          const std::vector<Borders>& borders = {});

}  // namespace ringweave::models::test
