#include "ringweave/models/config.h"

#include <algorithm>
#include <cmath>

#include "ringweave/base/error.h"

namespace ringweave::models {
namespace {

std::string name(LinearKind kind) {
  switch (kind) {
    case LinearKind::basic:
      return "basic";
    case LinearKind::lightning:
      return "lightning";
    case LinearKind::gla:
      return "gla";
  }
  throw InternalError("bug in ringweave: a linear kind without a name");
}

LinearKind linear_kind(const std::string& word) {
  for (const auto kind :
       {LinearKind::basic, LinearKind::lightning, LinearKind::gla}) {
    if (name(kind) == word) return kind;
  }
  throw InternalError("bug in ringweave: a linear kind without a value");
}

// Only the fields of the chosen kind are known, so that one that would have no
// effect is an error.
LinearConfig linear_from_json(JsonObject object) {
  LinearConfig config;
  config.kind = linear_kind(
      object.choice("kind", {"basic", "lightning", "gla"}, name(config.kind)));
  if (config.kind == LinearKind::basic) {
    const auto map = object.choice("feature_map", {"elu1", "identity"}, "elu1");
    config.feature_map =
        map == "elu1" ? FeatureMap::elu1 : FeatureMap::identity;
  }
  if (config.kind == LinearKind::gla) {
    config.gate_rank = object.integer("gate_rank", 1, config.gate_rank);
    config.gate_divisor = object.number("gate_divisor", 0, config.gate_divisor);
  }
  object.done();
  return config;
}

Json to_json(const LinearConfig& config) {
  Json json = {{"kind", name(config.kind)}};
  if (config.kind == LinearKind::basic) {
    json["feature_map"] =
        config.feature_map == FeatureMap::elu1 ? "elu1" : "identity";
  }
  if (config.kind == LinearKind::gla) {
    json["gate_rank"] = config.gate_rank;
    json["gate_divisor"] = config.gate_divisor;
  }
  return json;
}

bool uses(const ModelConfig& config, bool linear) {
  const std::int64_t period =
      std::min(config.layers, static_cast<std::int64_t>(config.pattern.size()));
  for (std::int64_t layer = 0; layer < period; ++layer) {
    if (config.is_linear(layer) == linear) return true;
  }
  return false;
}

}  // namespace

bool ModelConfig::has_linear() const { return uses(*this, true); }
bool ModelConfig::has_softmax() const { return uses(*this, false); }

ModelConfig model_config_from_json(const Json& json, const std::string& path) {
  JsonObject object(json, path);
  ModelConfig config;
  config.vocab_size = object.integer("vocab_size", 1, config.vocab_size);
  config.hidden = object.integer("hidden", 1, config.hidden);
  config.intermediate = object.integer("intermediate", 1, config.intermediate);
  config.layers = object.integer("layers", 1, config.layers);
  config.heads = object.integer("heads", 1, config.heads);
  config.kv_heads = object.integer("kv_heads", 1, config.heads);
  if (!object.has("head_dim")) {
    require(config.hidden % config.heads == 0,
            "[{}.head_dim] got none, and hidden {} does not divide by {} "
            "heads; want head_dim",
            path, config.hidden, config.heads);
  }
  config.head_dim = object.integer("head_dim", 1, config.hidden / config.heads);
  config.pattern = object.string("pattern", config.pattern);
  config.rope_theta = object.number("rope_theta", 0, config.rope_theta);
  config.norm_eps = object.number("norm_eps", 0, config.norm_eps);
  config.tie_embeddings =
      object.boolean("tie_embeddings", config.tie_embeddings);
  config.linear = linear_from_json(object.object("linear"));
  object.done();
  check(config, path);
  return config;
}

Json to_json(const ModelConfig& config) {
  return {{"vocab_size", config.vocab_size},
          {"hidden", config.hidden},
          {"intermediate", config.intermediate},
          {"layers", config.layers},
          {"heads", config.heads},
          {"kv_heads", config.kv_heads},
          {"head_dim", config.head_dim},
          {"pattern", config.pattern},
          {"rope_theta", config.rope_theta},
          {"norm_eps", config.norm_eps},
          {"tie_embeddings", config.tie_embeddings},
          {"linear", to_json(config.linear)}};
}

void check(const ModelConfig& config, const std::string& path) {
  const auto positive = [&](const char* field, std::int64_t value) {
    require(value >= 1, "[{}.{}] got {}; want at least 1", path, field, value);
  };
  positive("vocab_size", config.vocab_size);
  positive("hidden", config.hidden);
  positive("intermediate", config.intermediate);
  positive("layers", config.layers);
  positive("heads", config.heads);
  positive("kv_heads", config.kv_heads);
  positive("head_dim", config.head_dim);
  positive("linear.gate_rank", config.linear.gate_rank);
  require(config.heads % config.kv_heads == 0,
          "[{}.heads] got {} heads and {} kv_heads; want a multiple of "
          "kv_heads",
          path, config.heads, config.kv_heads);
  require(!config.pattern.empty(),
          "[{}.pattern] got an empty pattern; want letters L (linear) and N "
          "(softmax)",
          path);
  for (std::size_t i = 0; i < config.pattern.size(); ++i) {
    const char letter = config.pattern[i];
    require(letter == 'L' || letter == 'N',
            "[{}.pattern] got the letter '{}' at place {} of \"{}\"; want L "
            "(linear) or N (softmax)",
            path, letter, i + 1, config.pattern);
  }
  require(!config.has_softmax() || config.head_dim % 2 == 0,
          "[{}.head_dim] got {}; want an even number, since RoPE turns pairs",
          path, config.head_dim);
  const auto above_zero = [&](const char* field, double value) {
    require(std::isfinite(value) && value > 0,
            "[{}.{}] got {}; want a finite number above 0", path, field, value);
  };
  above_zero("rope_theta", config.rope_theta);
  above_zero("norm_eps", config.norm_eps);
  above_zero("linear.gate_divisor", config.linear.gate_divisor);
}

}  // namespace ringweave::models
