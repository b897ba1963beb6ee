#include "ringweave/models/model.h"

#include <algorithm>
#include <optional>

#include <ATen/ATen.h>

#include "ringweave/base/error.h"
#include "ringweave/models/rms_norm.h"
#include "ringweave/tensor/scalar_type.h"

namespace ringweave::models {

Model::Model(const ModelConfig& config, ElementType compute,
             std::optional<std::int64_t> seed, Unseeded unseeded)
    : config_(config), compute_(compute) {
  check(config);
  ParameterMaker maker(seed, compute, unseeded);
  embedding_ = maker.normal("model.embed_tokens.weight",
                            {config.vocab_size, config.hidden}, kInitStd);
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const std::string prefix = fmt::format("model.layers.{}.", i);
    Layer layer;
    layer.first_parameter = maker.parameters().size();
    layer.input_norm =
        maker.filled(prefix + "input_layernorm.weight", {config.hidden}, 1.0);
    layer.mixer = make_mixer(config, i, prefix + "self_attn.", maker);
    layer.mlp_norm = maker.filled(prefix + "post_attention_layernorm.weight",
                                  {config.hidden}, 1.0);
    layer.mlp = make_swiglu(config, prefix + "mlp.", maker);
    layers_.push_back(std::move(layer));
  }
  norm_ = maker.filled("model.norm.weight", {config.hidden}, 1.0);
  head_ = config.tie_embeddings
              ? embedding_
              : maker.normal("lm_head.weight",
                             {config.vocab_size, config.hidden}, kInitStd);
  parameters_ = maker.parameters();
}

at::Tensor Model::forward(const at::Tensor& tokens,
                          const Context& context) const {
  return logits(hidden(tokens, context));
}

at::Tensor Model::logits(const at::Tensor& hidden) const {
  return project(rms_norm(hidden, norm_, config_.norm_eps), head_);
}

at::Tensor Model::hidden(const at::Tensor& tokens, const Context& context,
                         Cache* cache) const {
  require(tokens.dim() == 2 && tokens.size(1) == context.positions.size(0),
          "[model] got tokens of {} dimensions, {} in the last; want (batch, "
          "{}), the rank's shard",
          tokens.dim(), tokens.dim() == 0 ? 0 : tokens.size(-1),
          context.positions.size(0));
  at::Tensor x =
      at::embedding(embedding_, tokens).to(tensor::scalar_type(compute_));
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    if (context.layer_done && x.requires_grad()) {
      // The gradient of a layer's input comes when all of the layer's nodes
      // have run: they were recorded later, and the engine runs these first.
      x.register_hook([done = context.layer_done, i](const at::Tensor&) {
        done(static_cast<std::int64_t>(i));
      });
    }
    const Block mlp = [this, &layer](const at::Tensor& in) {
      return in +
             swiglu(rms_norm(in, layer.mlp_norm, config_.norm_eps), layer.mlp);
    };
    std::optional<Context> with_cache;
    if (cache) {
      with_cache = context;
      with_cache->cache = &cache->layers[i];
    }
    const Context& own = with_cache ? *with_cache : context;
    const Block mixer = [this, &layer, &own](const at::Tensor& in) {
      return in + layer.mixer->forward(
                      rms_norm(in, layer.input_norm, config_.norm_eps), own);
    };
    switch (context.split.recompute) {
      case Recompute::none:
        x = mlp(mixer(x));
        break;
      case Recompute::mlp:
        x = recomputed(mlp, mixer(x));
        break;
      case Recompute::block:
        x = recomputed(
            [mlp, mixer](const at::Tensor& in) { return mlp(mixer(in)); }, x);
        break;
    }
  }
  return x;
}

Shard shard_sequences(const at::Tensor& sequences, const Context& context) {
  const std::int64_t tokens = context.layout().tokens();
  require(sequences.dim() == 2 && sequences.size(1) == tokens + 1,
          "[model] got sequences of {} tokens; want {}, one more than the "
          "layout has",
          sequences.size(-1), tokens + 1);
  at::Tensor labels = sequences.narrow(1, 1, tokens);
  if (!context.borders.empty()) {
    require(
        sequences.size(0) == static_cast<std::int64_t>(context.borders.size()),
        "[model] got {} sequences; want {}, whose documents the context "
        "has",
        sequences.size(0), context.borders.size());
    labels = labels.clone();
    for (std::size_t row = 0; row < context.borders.size(); ++row) {
      for (const std::int64_t border : context.borders[row]) {
        labels[static_cast<std::int64_t>(row)][border - 1].fill_(kNoLabel);
      }
    }
  }
  return shard_labelled(sequences.narrow(1, 0, tokens), labels, context);
}

Shard shard_labelled(const at::Tensor& tokens, const at::Tensor& labels,
                     const Context& context) {
  require(tokens.dim() == 2 && tokens.size(1) == context.layout().tokens() &&
              tokens.sizes() == labels.sizes(),
          "[model] got {} tokens and {} labels; want (batch, {}) of each",
          tokens.numel(), labels.numel(), context.layout().tokens());
  return {tokens.index_select(1, context.positions),
          labels.index_select(1, context.positions)};
}

at::Tensor loss(const at::Tensor& logits, const at::Tensor& labels,
                std::int64_t global_labels) {
  const std::int64_t vocab = logits.size(2);
  const at::ScalarType type = tensor::accumulate_type(logits.scalar_type());
  const at::Tensor rows = logits.to(type).reshape({labels.numel(), vocab});
  // A batch of documents of one token each has no labels.
  return at::cross_entropy_loss(rows, labels.reshape({labels.numel()}), {},
                                at::Reduction::Sum, kNoLabel) /
         static_cast<double>(std::max<std::int64_t>(1, global_labels));
}

}  // namespace ringweave::models
