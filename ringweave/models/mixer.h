// The part of a block in which tokens see each other.
//
// Softmax attention (softmax_layer.h), or a family of linear attention: one
// file each, found by the family's name.
#pragma once

#include <memory>
#include <string>

#include <ATen/core/Tensor.h>

#include "ringweave/config/model_config.h"
#include "ringweave/models/context.h"
#include "ringweave/models/parameters.h"

namespace ringweave::models {

class Mixer {
 public:
  virtual ~Mixer() = default;
  /// x: (batch, tokens of this rank, hidden) → the same shape and type. Every
  /// rank must call it, and its backward, in the same order.
  virtual at::Tensor forward(const at::Tensor& x,
                             const Context& context) const = 0;
};

/// Makes the mixer of layer `layer`. `prefix` of its weights' names ends with a
/// dot.
using MakeMixer = std::unique_ptr<Mixer>(const ModelConfig& config,
                                         std::int64_t layer,
                                         const std::string& prefix,
                                         ParameterMaker& maker);

// The families of linear layers. A new one is a file with such a function, a
// line here and in mixer.cpp's table, and a row in config/linear_family.cpp.
MakeMixer make_basic;
MakeMixer make_lightning;
MakeMixer make_retention;
MakeMixer make_gla;
MakeMixer make_based;
MakeMixer make_rebased;
MakeMixer make_mamba2;

/// Adds a family from outside. To be called before any other thread reads a
/// config. Throws InvalidArgument if there is a family of that name.
void add_linear_family(const config::LinearFamily& family, MakeMixer* make);

/// The mixer that the pattern names for `layer`.
std::unique_ptr<Mixer> make_mixer(const ModelConfig& config, std::int64_t layer,
                                  const std::string& prefix,
                                  ParameterMaker& maker);

/// Standard deviation of initial weights; smaller for the projections that add
/// to the residual stream, so that its variance does not grow with depth.
inline constexpr double kInitStd = 0.02;
double residual_std(const ModelConfig& config);

/// Added to the denominators of Based and ReBased.
inline constexpr double kNormaliserEps = 1e-6;

/// Llama's four projections of attention. Some families have keys of another
/// size than head_dim.
struct Projections {
  at::Tensor q;  ///< (heads · key_dim, hidden)
  at::Tensor k;  ///< (kv_heads · key_dim, hidden)
  at::Tensor v;  ///< (kv_heads · head_dim, hidden)
  at::Tensor o;  ///< (hidden, heads · head_dim)
};

Projections make_projections(const ModelConfig& config,
                             const std::string& prefix, ParameterMaker& maker);
Projections make_projections(const ModelConfig& config,
                             const std::string& prefix, ParameterMaker& maker,
                             std::int64_t key_dim);

/// x · weightᵀ as (batch, tokens, heads, head_dim).
at::Tensor project_heads(const at::Tensor& x, const at::Tensor& weight,
                         std::int64_t head_dim);
/// (batch, tokens, heads · head_dim) → (batch, tokens, heads, head_dim), a
/// view.
at::Tensor split_heads(const at::Tensor& x, std::int64_t heads);
/// The reverse.
at::Tensor join_heads(const at::Tensor& x);

}  // namespace ringweave::models
