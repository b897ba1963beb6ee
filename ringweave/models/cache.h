// What a model keeps of the tokens that went through it, so that later ones
// can follow: keys and values of softmax layers; states of linear layers, and
// the last inputs of their short convolutions.
//
// A cache has several sequences. The keys of each are spread over the ranks.
// The rest is on one rank, its owner.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/attention/cached_attention.h"
#include "ringweave/attention/kv_cache.h"
#include "ringweave/base/range.h"

namespace ringweave::models {

/// Of one layer, on one rank.
struct LayerCache {
  std::vector<attention::KvCache> kv;  ///< by sequence; of a softmax layer
  /// (sequences that the rank owns, state heads, key_dim, value_dim), in the
  /// accumulate type; of a linear layer, undefined before the first token.
  at::Tensor states;
  /// (sequences that the rank owns, convolution - 1, channels), in the compute
  /// type; of a short convolution, undefined before the first token.
  at::Tensor tails;
};

/// One rank's part.
struct Cache {
  Cache(std::int64_t layers, std::size_t sequences, int ranks)
      : layers(static_cast<std::size_t>(layers)),
        kept(sequences, std::vector<std::int64_t>(ranks)),
        tokens(sequences) {
    for (LayerCache& layer : this->layers) layer.kv.resize(sequences);
  }

  std::vector<LayerCache> layers;
  // What all ranks know.
  /// [sequence][rank]: tokens whose keys the rank keeps.
  std::vector<std::vector<std::int64_t>> kept;
  std::vector<std::int64_t> tokens;  ///< [sequence]

  std::size_t sequences() const { return tokens.size(); }
  int ranks() const { return static_cast<int>(kept.front().size()); }
  Rank owner(std::size_t sequence) const {
    return static_cast<Rank>(sequence % static_cast<std::size_t>(ranks()));
  }
  /// Its place among the sequences of its owner.
  std::int64_t place(std::size_t sequence) const {
    return static_cast<std::int64_t>(sequence /
                                     static_cast<std::size_t>(ranks()));
  }
  /// How many sequences a rank owns.
  std::int64_t owned(Rank rank) const {
    const auto all = static_cast<std::int64_t>(sequences());
    return all / ranks() + (rank < all % ranks() ? 1 : 0);
  }
};

/// New tokens that go through a model with a cache: either some of one
/// sequence, split over the ranks, or one each of several sequences, on their
/// owners. In the second case a context's tokens are those of other sequences.
struct CacheStep {
  const Cache* cache = nullptr;
  attention::CachedQueries queries;
  bool split = true;         ///< the tokens are of one sequence
  std::size_t sequence = 0;  ///< if they are
  std::int64_t past = 0;     ///< tokens of the sequence before them
  at::Tensor places = {};    ///< else: Cache::place of this rank's tokens
};

}  // namespace ringweave::models
