#include "ringweave/config/hugging_face.h"

#include <array>
#include <utility>
#include <vector>

#include "ringweave/base/error.h"

namespace ringweave::config {
namespace {

constexpr const char* kLlama = "llama";
constexpr const char* kMistral = "mistral";  // Llama with a sliding window
constexpr const char* kFullAttention = "full_attention";
constexpr const char* kSlidingAttention = "sliding_attention";
constexpr const char* kHalf = "float16";  // a type of weights alone

/// A null stands for a field that is not there.
Json without_nulls(const Json& json, const std::string& path) {
  require(json.is_object(), "[{}] got {}; want an object", path,
          json.type_name());
  Json kept = Json::object();
  for (const auto& [field, value] : json.items()) {
    if (!value.is_null()) kept[field] = value;
  }
  return kept;
}

/// Fields of which the layers here have one value alone.
void check_fixed(const Json& json, const std::string& path) {
  const std::array<std::pair<const char*, Json>, 5> fixed = {{
      {"hidden_act", "silu"},
      {"attention_bias", false},
      {"mlp_bias", false},
      {"attention_dropout", 0},
      {"partial_rotary_factor", 1},
  }};
  for (const auto& [field, value] : fixed) {
    if (!json.contains(field)) continue;
    require(json[field] == value, "[{}.{}] got {}; want {}: there is no other",
            path, field, json[field].dump(), value.dump());
  }
  require(!json.contains("quantization_config"),
          "[{}.quantization_config] got quantized weights; want float64, "
          "float32, bfloat16 or float16",
          path);
}

/// Transformers 5 has one object for RoPE, which 4 calls rope_scaling and has
/// the base beside.
void read_rope(JsonObject& object, const Json& json, ModelConfig& model) {
  constexpr const char* kParameters = "rope_parameters";
  const char* field = json.contains(kParameters) ? kParameters : "rope_scaling";
  const std::string path = object.path() + "." + field;
  Json rope =
      json.contains(field) ? without_nulls(json[field], path) : Json::object();
  check_fixed(rope, path);
  rope.erase("partial_rotary_factor");
  if (rope.contains("type") && !rope.contains("rope_type")) {
    rope["rope_type"] = rope["type"];
  }
  rope.erase("type");
  JsonObject read(rope, path);
  model.rope_theta = object.number("rope_theta", 0, model.rope_theta);
  if (read.has("rope_theta")) {
    const double theta = read.number("rope_theta", 0);
    require(!json.contains("rope_theta") || theta == model.rope_theta,
            "[{}.rope_theta] got {}, and {} beside {}; want one base", path,
            theta, model.rope_theta, field);
    model.rope_theta = theta;
    rope.erase("rope_theta");
  }
  if (read.choice("rope_type", {"default", "llama3"}, "default") == "default") {
    rope.erase("rope_type");
    JsonObject(rope, path).done();
  } else {
    model.rope_scaling = rope_scaling_from_json(JsonObject(rope, path));
  }
}

/// `json` without nulls, `whole` with them.
void read_windows(JsonObject& object, const Json& json, const Json& whole,
                  const std::string& type, ModelConfig& model) {
  const std::string& path = object.path();
  if (type == kMistral) {
    require(whole.contains("sliding_window"),
            "[{}.sliding_window] got none; want a number of tokens, or null",
            path);
    if (json.contains("sliding_window")) {
      model.sliding_windows = {object.integer("sliding_window", 1)};
    }
  } else {
    require(!json.contains("sliding_window"),
            "[{}.sliding_window] got {} in a model of type {}; want null: its "
            "layers see all tokens before",
            path, json.value("sliding_window", Json()).dump(), type);
  }
  const std::string kind =
      model.sliding_windows.empty() ? kFullAttention : kSlidingAttention;
  for (const std::string& layer :
       object.strings("layer_types", std::vector<std::string>{})) {
    require(layer == kind, "[{}.layer_types] got {}; want {} in all layers",
            path, layer, kind);
  }
}

}  // namespace

ModelConfig model_config_from_hugging_face(const Json& json,
                                           const std::string& path) {
  const Json said = without_nulls(json, path);
  JsonObject object(said, path);
  const std::string type = object.choice("model_type", {kLlama, kMistral});
  check_fixed(said, path);
  ModelConfig model;
  model.pattern = "N";
  model.vocab_size = object.integer("vocab_size", 1);
  model.hidden = object.integer("hidden_size", 1);
  model.intermediate = object.integer("intermediate_size", 1);
  model.layers = object.integer("num_hidden_layers", 1);
  model.heads = object.integer("num_attention_heads", 1);
  model.kv_heads = object.integer("num_key_value_heads", 1, model.heads);
  model.head_dim = object.integer("head_dim", 1, model.hidden / model.heads);
  model.norm_eps = object.number("rms_norm_eps", 0);
  model.max_position_embeddings = object.integer("max_position_embeddings", 1);
  model.tie_embeddings = object.boolean("tie_word_embeddings", false);
  read_rope(object, said, model);
  read_windows(object, said, json, type, model);
  check(model, path);
  // Not done(): Transformers writes many fields that matter to it alone.
  return model;
}

ElementType compute_from_hugging_face(const Json& json,
                                      const std::string& path) {
  constexpr const char* kField = "dtype";
  constexpr const char* kFormerField = "torch_dtype";
  const std::vector<std::string> types = {"float64", "float32", "bfloat16",
                                          kHalf};
  const Json said = without_nulls(json, path);
  JsonObject object(said, path);
  const std::string former =
      object.choice(kFormerField, types, name(ElementType::float32));
  const std::string type = object.choice(kField, types, former);
  require(!said.contains(kFormerField) || type == former,
          "[{}.{}] got {}, and {} {}; want one type", path, kField, type,
          kFormerField, former);
  return type == kHalf ? ElementType::float32 : element_type_from_name(type);
}

std::vector<std::int64_t> end_tokens_from_hugging_face(
    const Json& json, const std::string& path) {
  constexpr const char* kField = "eos_token_id";
  const Json said = without_nulls(json, path);
  JsonObject object(said, path);
  if (!object.has(kField)) return {};
  if (!said[kField].is_array()) return {object.integer(kField, 0)};
  std::vector<std::int64_t> tokens = object.integers(kField);
  for (const std::int64_t token : tokens) {
    require(token >= 0, "[{}.{}] got {}; want numbers of tokens, from 0 on",
            path, kField, token);
  }
  return tokens;
}

Json to_hugging_face(const ModelConfig& model, const std::string& dtype,
                     std::int64_t longest) {
  require(
      model.causal,
      "[export] got an encoder; want a model with causal true: Transformers' "
      "classes of these layers have a causal mask");
  require(!model.has_linear(),
          "[export] got the pattern {}; want softmax layers (N) alone: "
          "Transformers has no class with linear layers",
          model.pattern);
  const std::int64_t window = model.sliding_window(0);
  for (std::int64_t i = 1; i < model.layers; ++i) {
    require(model.sliding_window(i) == window,
            "[export] got sliding windows of {} and {} tokens; want the same "
            "in all layers: Transformers has no class with both",
            window, model.sliding_window(i));
  }
  Json json = {
      {"architectures",
       Json::array({window == 0 ? "LlamaForCausalLM" : "MistralForCausalLM"})},
      {"model_type", window == 0 ? kLlama : kMistral},
      {"vocab_size", model.vocab_size},
      {"hidden_size", model.hidden},
      {"intermediate_size", model.intermediate},
      {"num_hidden_layers", model.layers},
      {"num_attention_heads", model.heads},
      {"num_key_value_heads", model.kv_heads},
      {"head_dim", model.head_dim},
      {"hidden_act", "silu"},
      {"rms_norm_eps", model.norm_eps},
      {"rope_theta", model.rope_theta},
      {"rope_scaling",
       model.rope_scaling ? to_json(*model.rope_scaling) : Json(nullptr)},
      {"max_position_embeddings", model.max_position_embeddings > 0
                                      ? model.max_position_embeddings
                                      : longest},
      {"tie_word_embeddings", model.tie_embeddings},
      {"attention_bias", false},
      {"mlp_bias", false},
      {"attention_dropout", 0.0},
      // The defaults of the class would be ids of a vocabulary of its own.
      {"bos_token_id", nullptr},
      {"eos_token_id", nullptr},
      {"torch_dtype", dtype}};
  if (window != 0) json["sliding_window"] = window;
  return json;
}

}  // namespace ringweave::config
