// The numbers of a model that decide how much attention costs and moves: its
// layers, heads, states and type. Weights play no part.
#pragma once

#include <cstdint>
#include <string>

#include "ringweave/base/element_type.h"
#include "ringweave/base/json.h"
#include "ringweave/config/model_config.h"

namespace ringweave::planner {

struct ModelShape {
  std::int64_t layers = 1;
  std::string pattern = "N";  ///< repeated over the layers: L linear, N softmax
  std::int64_t heads = 8;
  std::int64_t kv_heads = 8;
  std::int64_t head_dim = 64;
  std::string linear = "lightning";  ///< name of the linear layers' family
  config::StateShape state = {8, 64, 64};  ///< of one linear layer
  /// Numbers of decay that travel beside the state of one head.
  std::int64_t state_decays = 0;
  ElementType type = ElementType::bfloat16;
  std::int64_t batch = 1;  ///< sequences per step
  friend bool operator==(const ModelShape&, const ModelShape&) = default;

  std::int64_t softmax_layers() const;
  std::int64_t linear_layers() const { return layers - softmax_layers(); }
  /// Bytes of one number of keys and values, and of a sum (fp32 or better).
  std::int64_t value_bytes() const { return element_bytes(type); }
  std::int64_t sum_bytes() const;
  /// Bytes of a token's keys and values, and of their gradients, of the whole
  /// batch.
  std::int64_t kv_token_bytes() const;
  std::int64_t grad_token_bytes() const;
  /// Numbers of one segment's summary, of the whole batch: the state of all
  /// heads, and the decays that travel beside it.
  std::int64_t state_numbers() const;
  std::int64_t decay_numbers() const;
};

/// Of a model that computes in `type`. Throws as both checks; `path` names the
/// model in errors.
ModelShape model_shape(const config::ModelConfig& model, ElementType type,
                       std::int64_t batch, const std::string& path);

/// Throws InvalidArgument naming the first field that can't be used. Refuses
/// models whose keys of `tokens` tokens, or whose states, have so many bytes
/// that a sum over links and ranks may pass int64. `path` names the object in
/// errors.
void check(const ModelShape& shape, const std::string& path,
           std::int64_t tokens = 1);

/// The shape as it stands in a plan file.
Json to_json(const ModelShape& shape);
/// Reads files without "state" too, which older programs wrote: the family then
/// tells the state.
ModelShape saved_model_shape(const Json& json, const std::string& path);

}  // namespace ringweave::planner
