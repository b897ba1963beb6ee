// Linear-Llama3: the whole model, on the tokens of one rank.
//
//   const Model model(config, ElementType::float32, seed);
//   const Shard shard = shard_sequences(sequences, context);
//   loss(model.forward(shard.tokens, context), shard.labels,
//   tokens).backward();
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/models/cache.h"
#include "ringweave/models/context.h"
#include "ringweave/models/mixer.h"
#include "ringweave/models/parameters.h"
#include "ringweave/models/swiglu.h"

namespace ringweave::models {

class Model {
 public:
  /// Draws the weights; equal on every rank for equal arguments. Without a seed
  /// they have names, and what `unseeded` says. Throws InvalidArgument as
  /// check(config).
  Model(const ModelConfig& config, ElementType compute,
        std::optional<std::int64_t> seed, Unseeded unseeded = Unseeded::shapes);

  const ModelConfig& config() const { return config_; }
  ElementType compute() const { return compute_; }
  /// In a fixed order: the embedding, layer by layer, the rest. With tied
  /// embeddings there is no lm_head.weight.
  const std::vector<Parameter>& parameters() const { return parameters_; }
  /// Index of the first one of a layer.
  std::size_t first_parameter(std::int64_t layer) const {
    return layers_[static_cast<std::size_t>(layer)].first_parameter;
  }

  /// tokens: (batch, tokens of this rank) int64 → logits (batch, tokens,
  /// vocab_size). Every rank must call it, and the backward of what it returns,
  /// even if it has no tokens: its layers exchange blocks and states with the
  /// others. Blocks; throws CommError at a time-out. With context.recompute the
  /// model and the context must outlive the graph.
  at::Tensor forward(const at::Tensor& tokens, const Context& context) const;

  // The same in two parts.

  /// → (batch, tokens, hidden). With a cache the context says which tokens of
  /// which sequences these are (Context::step). Their keys and states are in
  /// the cache when this returns; Cache::kept and tokens are left to the
  /// caller.
  at::Tensor hidden(const at::Tensor& tokens, const Context& context,
                    Cache* cache = nullptr) const;
  /// (…, hidden) → (…, vocab_size).
  at::Tensor logits(const at::Tensor& hidden) const;

 private:
  struct Layer {
    std::size_t first_parameter;
    at::Tensor input_norm;
    std::unique_ptr<Mixer> mixer;
    at::Tensor mlp_norm;
    Swiglu mlp;
  };

  ModelConfig config_;
  ElementType compute_;
  std::vector<Parameter> parameters_;
  at::Tensor embedding_;  ///< (vocab_size, hidden)
  std::vector<Layer> layers_;
  at::Tensor norm_;  ///< (hidden)
  at::Tensor head_;  ///< (vocab_size, hidden); the embedding if tied
};

/// In place of a label that is of another document than its token, or, in an
/// encoder, of a token that is not to be predicted.
inline constexpr std::int64_t kNoLabel = -100;

/// A rank's tokens and, for each, its label: the token that follows it in its
/// document. (batch, tokens of this rank) each.
struct Shard {
  at::Tensor tokens;
  at::Tensor labels;
};

/// sequences: (batch, layout().tokens() + 1) int64, the same on all ranks.
Shard shard_sequences(const at::Tensor& sequences, const Context& context);

/// The same of an encoder's tokens and their labels, (batch, layout().tokens())
/// int64 each.
Shard shard_labelled(const at::Tensor& tokens, const at::Tensor& labels,
                     const Context& context);

/// Cross entropy in fp32 (fp64), summed over this rank's labels and divided by
/// `global_labels`: over all ranks these sum to the mean loss. A scalar with a
/// gradient even if there are no labels.
at::Tensor loss(const at::Tensor& logits, const at::Tensor& labels,
                std::int64_t global_labels);

}  // namespace ringweave::models
