// What a Linear-Llama3 model is made of.
//
// Llama 3's blocks, with the attention of some layers replaced by linear
// attention: a pattern such as "LLLN", repeated over the layers, says which are
// linear (L) and which are softmax (N).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ringweave/base/json.h"
#include "ringweave/config/linear_family.h"
#include "ringweave/schedule/mask/mask.h"

namespace ringweave::config {

/// A family of linear layers and the values of its fields.
class LinearConfig {
 public:
  /// With the family's defaults. Throws InvalidArgument for an unknown family.
  explicit LinearConfig(const std::string& kind = "basic");
  /// Reads and checks an object; only the fields of its family are known.
  static LinearConfig from_json(JsonObject object);
  friend Json to_json(const LinearConfig& config);

  const std::string& kind() const { return kind_; }
  const LinearFamily& family() const { return linear_family(kind_); }

  /// The value of a field. InternalError if the family has no such field of
  /// that type.
  std::int64_t integer(const std::string& field) const;
  double number(const std::string& field) const;
  const std::string& word(const std::string& field) const;

  /// Tokens that the short convolution sees; 0: there is none.
  std::int64_t convolution() const { return integer("convolution"); }

  /// Throws InvalidArgument unless the family has the field and the value is
  /// one that a config may have.
  void set(const std::string& field, const Json& value);

  friend bool operator==(const LinearConfig&, const LinearConfig&) = default;

 private:
  template <typename Value>
  const Value& value(const std::string& field) const;

  std::string kind_;
  std::map<std::string, FieldValue> values_;
};

/// Llama 3's scaling of RoPE, for longer sequences than those of the first
/// training: what turns less than `low_freq_factor` times within
/// `original_max_position_embeddings` tokens turns slower by `factor`, what
/// turns more than `high_freq_factor` times as before, the rest in between.
struct RopeScaling {
  double factor = 1;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  std::int64_t original_max_position_embeddings = 8192;
  friend bool operator==(const RopeScaling&, const RopeScaling&) = default;
};

/// Reads and checks {"rope_type": "llama3", …}, each field of it. Throws
/// InvalidArgument.
RopeScaling rope_scaling_from_json(JsonObject object);
Json to_json(const RopeScaling& scaling);

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
  /// false: an encoder. All tokens see each other, and the model predicts
  /// tokens that were masked, not the next ones. Then there are no sliding
  /// windows, no short convolutions, and no decays.
  bool causal = true;
  double rope_theta = 10000.0;
  std::optional<RopeScaling> rope_scaling{};
  /// Tokens of the longest sequence that the model is for; 0: nobody said.
  std::int64_t max_position_embeddings = 0;
  double norm_eps = 1e-5;
  bool tie_embeddings = false;
  /// Tokens that a query of a softmax layer sees, itself and those before it;
  /// 0: all. Repeated over the softmax layers; empty: all see all.
  std::vector<std::int64_t> sliding_windows{};
  LinearConfig linear{};

  bool is_linear(std::int64_t layer) const {
    return pattern[static_cast<std::size_t>(layer) % pattern.size()] == 'L';
  }
  std::int64_t softmax_layers() const;
  /// Of a softmax layer, as in `sliding_windows`.
  std::int64_t sliding_window(std::int64_t layer) const;
  std::int64_t linear_layers() const { return layers - softmax_layers(); }
  bool has_linear() const { return linear_layers() > 0; }
  bool has_softmax() const { return softmax_layers() > 0; }
  /// Whether some layers have rotary queries and keys.
  bool has_rope() const {
    return has_softmax() || (has_linear() && linear.family().rope);
  }
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

/// The mask with a window of so many tokens, as in sliding_windows.
schedule::Mask with_sliding_window(const schedule::Mask& mask,
                                   std::int64_t window);
/// The mask of layers without a window.
schedule::Mask whole_mask(const ModelConfig& config);
/// The mask of the softmax layers that see most: what plans are for. Of a
/// config that was checked.
schedule::Mask planned_mask(const ModelConfig& config);

/// Of the first `layers` layers; in time that does not depend on them.
std::int64_t softmax_layers(const std::string& pattern, std::int64_t layers);
/// Throw InvalidArgument unless kv_heads divides heads, and the pattern has
/// letters L and N alone.
void check_heads(std::int64_t heads, std::int64_t kv_heads,
                 const std::string& path);
void check_pattern(const std::string& pattern, const std::string& path);

/// Numbers of a SwiGLU's weights, of a layer's and of all of the model.
double mlp_weight_count(const ModelConfig& config);
double layer_weight_count(const ModelConfig& config, bool linear);
double weight_count(const ModelConfig& config);

}  // namespace ringweave::config
