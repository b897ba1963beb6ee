// What of a model decides how much attention costs and moves: its layers, heads
// and types, and nothing of its weights.
//
// Plan knows no model, so this reads the few fields that it needs from a config
// of `train` (docs/config.md); whether the values of others are right is for
// train to say.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "ringweave/base/json.h"

namespace ringweave::planner {

struct ModelShape {
  std::int64_t layers = 1;
  std::string pattern = "N";  ///< repeated over the layers: L linear, N softmax
  std::int64_t heads = 8;
  std::int64_t kv_heads = 8;
  std::int64_t head_dim = 64;
  /// "basic", "lightning", "gla": decides what travels beside a state.
  std::string linear_kind = "lightning";
  bool normaliser = false;  ///< basic with elu1: one more column of values
  std::string dtype = "bfloat16";  ///< float64, float32, bfloat16
  std::int64_t batch = 1;          ///< sequences per step
  friend bool operator==(const ModelShape&, const ModelShape&) = default;

  std::int64_t softmax_layers() const;
  std::int64_t linear_layers() const { return layers - softmax_layers(); }
  /// Of one number of keys and values, and of a sum (fp32 or better).
  std::int64_t value_bytes() const;
  std::int64_t sum_bytes() const;
  /// Of a token's keys and values, and of their gradients, of the whole batch.
  std::int64_t kv_token_bytes() const;
  std::int64_t grad_token_bytes() const;
  /// Numbers of one segment's summary, of the whole batch: the state of all
  /// heads, and the decays that travel beside it.
  std::int64_t state_numbers() const;
  std::int64_t decay_numbers() const;
};

/// Throws InvalidArgument naming the first field that can't be used, be it that
/// `tokens` of it, or its states, are more numbers than int64 counts bytes of
/// with room to add up links and ranks; `path` names the object in errors.
void check(const ModelShape& shape, const std::string& path,
           std::int64_t tokens = 1);

/// From a config of train, or its "model" object alone (then dtype and batch
/// are the defaults above). Unknown keys are errors in both, but those of
/// sections that say nothing of the shape are left for train to check.
ModelShape model_shape_from_json(const Json& json, const std::string& path);

/// What a config of train says of the run to plan; empty where it says nothing.
struct RunSettings {
  std::optional<std::int64_t> seq_len;  ///< data.seq_len
  /// Of the section "parallel".
  std::optional<std::int64_t> ranks;
  std::optional<std::string> topology, layout, device;
  std::optional<double> memory_limit_bytes, message_overhead_seconds;
};

/// Of what model_shape_from_json takes, which is to be called first: it finds
/// unknown keys everywhere but in "parallel". All empty for a model object
/// alone.
RunSettings run_settings_from_json(const Json& json, const std::string& path);

/// The shape as it stands in a plan file.
Json to_json(const ModelShape& shape);
ModelShape saved_model_shape(const Json& json, const std::string& path);

}  // namespace ringweave::planner
