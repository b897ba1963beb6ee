// Which token comes next, from the logits of a model.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace ringweave::generate {

struct Sampling {
  double temperature = 0;  ///< divides the logits; 0: the likeliest token
  std::int64_t top_k = 0;  ///< only the likeliest so many; 0: all
  double top_p = 1;        ///< only the likeliest that together have this share
  std::uint64_t seed = 0;
};

/// Throws InvalidArgument, which names the first field that can't be used.
void check(const Sampling& sampling);

struct Choice {
  std::int64_t token = 0;
  /// Natural, of the token under the model: before temperature, top_k, top_p.
  double log_probability = 0;
};

/// In (0, 1], the same on every machine, of `seed` and `index` alone.
double uniform(std::uint64_t seed, std::uint64_t index);

/// logits: (vocab_size). `index` of the draw: a token at the same index and of
/// the same logits is the same, whatever was drawn before. All arithmetic is in
/// fp64; of equal logits the lower id comes first. Throws Error for logits that
/// are NaN, or of which none is finite.
Choice choose(const at::Tensor& logits, const Sampling& sampling,
              std::uint64_t index);

}  // namespace ringweave::generate
