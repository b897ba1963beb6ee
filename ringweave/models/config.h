// What a Linear-Llama3 model is made of.
//
// Llama 3's blocks, with the attention of some layers replaced by linear
// attention: a pattern such as "LLLN", repeated over the layers, says which are
// linear (L) and which are softmax (N).
#pragma once

#include <cstdint>
#include <string>

#include "ringweave/base/json.h"

namespace ringweave::models {

/// The families of linear layers; one file each (basic.h, lightning.h, gla.h).
enum class LinearKind { basic, lightning, gla };

/// φ of a basic layer. elu1: elu(x) + 1 with a normaliser. identity: none; the
/// output is RMS-normed instead, since nothing else bounds its sums.
enum class FeatureMap { elu1, identity };

struct LinearConfig {
  LinearKind kind = LinearKind::basic;
  FeatureMap feature_map = FeatureMap::elu1;  ///< basic only
  std::int64_t gate_rank = 16;  ///< gla only: inner size of the gate projection
  double gate_divisor = 16.0;   ///< gla only: g = logsigmoid(…) / divisor
  friend bool operator==(const LinearConfig&, const LinearConfig&) = default;
};

struct ModelConfig {
  std::int64_t vocab_size = 256;
  std::int64_t hidden = 128;
  std::int64_t intermediate = 352;  ///< inner size of the SwiGLU
  std::int64_t layers = 4;
  std::int64_t heads = 4;
  std::int64_t kv_heads = 4;  ///< divides heads; in linear layers too, each key
                              ///< and value head serves heads / kv_heads
  std::int64_t head_dim = 32;
  std::string pattern = "LLLN";
  double rope_theta = 10000.0;
  double norm_eps = 1e-5;
  bool tie_embeddings = false;
  LinearConfig linear{};

  bool is_linear(std::int64_t layer) const {
    return pattern[static_cast<std::size_t>(layer) % pattern.size()] == 'L';
  }
  bool has_linear() const;
  bool has_softmax() const;
  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;
};

/// Reads and checks an object; `path` names it in errors. kv_heads defaults to
/// heads, head_dim to hidden / heads, and the rest as above. Throws
/// InvalidArgument.
ModelConfig model_config_from_json(const Json& json, const std::string& path);
/// Every field, in the form that model_config_from_json reads.
Json to_json(const ModelConfig& config);

/// Throws InvalidArgument naming the first field that can't be used.
void check(const ModelConfig& config, const std::string& path = "model");

}  // namespace ringweave::models
