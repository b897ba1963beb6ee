#include "ringweave/config/model_config.h"

#include <algorithm>
#include <cmath>

#include "ringweave/base/error.h"
#include "ringweave/base/limits.h"

namespace ringweave::config {
namespace {

constexpr const char* kLlama3 = "llama3";

/// What an encoder can't have: all that tells tokens before from those behind.
void check_encoder(const ModelConfig& config, const std::string& path) {
  require(config.sliding_windows.empty(),
          "[{}.sliding_windows] got {} of them with causal false; want none: "
          "they are of tokens before a query",
          path, config.sliding_windows.size());
  if (!config.has_linear()) return;
  require(config.linear.family().decay == schedule::Decay::none,
          "[{}.linear.kind] got {} with causal false; want a family without "
          "decay: basic, based or rebased",
          path, config.linear.kind());
  require(config.linear.convolution() == 0,
          "[{}.linear.convolution] got {} with causal false; want 0: they are "
          "of tokens before each",
          path, config.linear.convolution());
}

}  // namespace

LinearConfig::LinearConfig(const std::string& kind) : kind_(kind) {
  for (const FamilyField& field : family().all_fields()) {
    values_[field.name] = field.fallback;
  }
}

LinearConfig LinearConfig::from_json(JsonObject object) {
  LinearConfig config(
      object.choice("kind", linear_family_names(), LinearConfig().kind()));
  for (const FamilyField& field : config.family().all_fields()) {
    config.values_[field.name] = field.read(object);
  }
  object.done();
  return config;
}

Json to_json(const LinearConfig& config) {
  Json json = {{"kind", config.kind_}};
  for (const FamilyField& field : config.family().all_fields()) {
    std::visit([&](const auto& value) { json[field.name] = value; },
               config.values_.at(field.name));
  }
  return json;
}

void LinearConfig::set(const std::string& field, const Json& value) {
  Json json = to_json(*this);
  json[field] = value;
  *this = from_json(JsonObject(json, "linear"));
}

RopeScaling rope_scaling_from_json(JsonObject object) {
  object.choice("rope_type", {kLlama3});
  const auto above = [&](const char* field, double least) {
    const double got = object.number(field, least);
    require(got > least, "[{}.{}] got {}; want more than {}", object.path(),
            field, got, least);
    return got;
  };
  RopeScaling scaling;
  scaling.factor = object.number("factor", 1);
  scaling.low_freq_factor = above("low_freq_factor", 0);
  scaling.high_freq_factor = above("high_freq_factor", scaling.low_freq_factor);
  scaling.original_max_position_embeddings =
      object.integer("original_max_position_embeddings", 1);
  object.done();
  return scaling;
}

Json to_json(const RopeScaling& scaling) {
  return {{"rope_type", kLlama3},
          {"factor", scaling.factor},
          {"low_freq_factor", scaling.low_freq_factor},
          {"high_freq_factor", scaling.high_freq_factor},
          {"original_max_position_embeddings",
           scaling.original_max_position_embeddings}};
}

template <typename Value>
const Value& LinearConfig::value(const std::string& field) const {
  const auto found = values_.find(field);
  const Value* value =
      found == values_.end() ? nullptr : std::get_if<Value>(&found->second);
  ensure(value != nullptr, "{} layers without a field {} of that type", kind_,
         field);
  return *value;
}

std::int64_t LinearConfig::integer(const std::string& field) const {
  return value<std::int64_t>(field);
}

double LinearConfig::number(const std::string& field) const {
  return value<double>(field);
}

const std::string& LinearConfig::word(const std::string& field) const {
  return value<std::string>(field);
}

std::int64_t ModelConfig::softmax_layers() const {
  return config::softmax_layers(pattern, layers);
}

std::int64_t ModelConfig::sliding_window(std::int64_t layer) const {
  if (sliding_windows.empty()) return 0;
  const std::int64_t before = config::softmax_layers(pattern, layer);
  return sliding_windows[static_cast<std::size_t>(before) %
                         sliding_windows.size()];
}

schedule::Mask with_sliding_window(const schedule::Mask& mask,
                                   std::int64_t window) {
  return window == 0 ? mask
                     : mask.with_window({.left = window - 1, .right = {}});
}

schedule::Mask whole_mask(const ModelConfig& config) {
  return config.causal ? schedule::Mask::causal() : schedule::Mask::full();
}

schedule::Mask planned_mask(const ModelConfig& config) {
  std::int64_t widest = 0;
  for (const std::int64_t window : config.sliding_windows) {
    if (window == 0) return whole_mask(config);
    widest = std::max(widest, window);
  }
  return with_sliding_window(whole_mask(config), widest);
}

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
  config.causal = object.boolean("causal", config.causal);
  config.rope_theta = object.number("rope_theta", 0, config.rope_theta);
  if (object.has("rope_scaling")) {
    config.rope_scaling = rope_scaling_from_json(object.object("rope_scaling"));
  }
  config.max_position_embeddings = object.integer(
      "max_position_embeddings", 0, config.max_position_embeddings);
  config.norm_eps = object.number("norm_eps", 0, config.norm_eps);
  config.tie_embeddings =
      object.boolean("tie_embeddings", config.tie_embeddings);
  config.sliding_windows =
      object.integers("sliding_windows", config.sliding_windows);
  config.linear = LinearConfig::from_json(object.object("linear"));
  object.done();
  check(config, path);
  return config;
}

Json to_json(const ModelConfig& config) {
  Json json = {{"vocab_size", config.vocab_size},
               {"hidden", config.hidden},
               {"intermediate", config.intermediate},
               {"layers", config.layers},
               {"heads", config.heads},
               {"kv_heads", config.kv_heads},
               {"head_dim", config.head_dim},
               {"pattern", config.pattern},
               {"causal", config.causal},
               {"rope_theta", config.rope_theta},
               {"max_position_embeddings", config.max_position_embeddings},
               {"norm_eps", config.norm_eps},
               {"tie_embeddings", config.tie_embeddings},
               {"sliding_windows", config.sliding_windows},
               {"linear", to_json(config.linear)}};
  if (config.rope_scaling) json["rope_scaling"] = to_json(*config.rope_scaling);
  return json;
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
  check_heads(config.heads, config.kv_heads, path);
  check_pattern(config.pattern, path);
  require(!config.has_softmax() || config.head_dim % 2 == 0,
          "[{}.head_dim] got {}; want an even number, since RoPE turns pairs",
          path, config.head_dim);
  const auto above_zero = [&](const char* field, double value) {
    require(std::isfinite(value) && value > 0,
            "[{}.{}] got {}; want a finite number above 0", path, field, value);
  };
  for (const std::int64_t window : config.sliding_windows) {
    require(window >= 0 && window <= kMaxTokens,
            "[{}.sliding_windows] got {}; want tokens that a query sees, at "
            "most {}, or 0 for all",
            path, window, kMaxTokens);
  }
  require(static_cast<std::int64_t>(config.sliding_windows.size()) <=
              config.softmax_layers(),
          "[{}.sliding_windows] got {} of them for {} softmax layers; want at "
          "most as many",
          path, config.sliding_windows.size(), config.softmax_layers());
  above_zero("rope_theta", config.rope_theta);
  above_zero("norm_eps", config.norm_eps);
  if (!config.causal) check_encoder(config, path);
}

std::int64_t softmax_layers(const std::string& pattern, std::int64_t layers) {
  const auto period = static_cast<std::int64_t>(pattern.size());
  const auto rest = pattern.begin() + layers % period;
  return layers / period * std::count(pattern.begin(), pattern.end(), 'N') +
         std::count(pattern.begin(), rest, 'N');
}

void check_heads(std::int64_t heads, std::int64_t kv_heads,
                 const std::string& path) {
  require(heads % kv_heads == 0,
          "[{}.heads] got {} heads and {} kv_heads; want a multiple of "
          "kv_heads",
          path, heads, kv_heads);
}

void check_pattern(const std::string& pattern, const std::string& path) {
  require(!pattern.empty(),
          "[{}.pattern] got an empty pattern; want letters L (linear) and N "
          "(softmax)",
          path);
  const std::size_t i = pattern.find_first_not_of("LN");
  require(i == pattern.npos,
          "[{}.pattern] got the letter '{}' at place {} of \"{}\"; want L "
          "(linear) or N (softmax)",
          path, i == pattern.npos ? ' ' : pattern[i], i + 1, pattern);
}

double mlp_weight_count(const ModelConfig& config) {
  return 3 * static_cast<double>(config.hidden) *
         static_cast<double>(config.intermediate);
}

double layer_weight_count(const ModelConfig& config, bool linear) {
  const auto hidden = static_cast<double>(config.hidden);
  const auto heads =
      static_cast<double>(config.heads) + static_cast<double>(config.kv_heads);
  const double projections =
      2 * heads * static_cast<double>(config.head_dim) * hidden;
  const double norms = 2 * hidden;
  const LinearFamily& family = config.linear.family();
  const double own =
      linear ? family.weights(config) +
                   static_cast<double>(config.linear.convolution()) *
                       family.convolved(config)
             : 0;
  return projections + mlp_weight_count(config) + norms + own;
}

double weight_count(const ModelConfig& config) {
  const auto hidden = static_cast<double>(config.hidden);
  const double vocabulary = hidden * static_cast<double>(config.vocab_size);
  const auto of_layers = [&](std::int64_t layers, bool linear) {
    return layers > 0 ? static_cast<double>(layers) *
                            layer_weight_count(config, linear)
                      : 0;
  };
  return of_layers(config.softmax_layers(), false) +
         of_layers(config.linear_layers(), true) +
         (config.tie_embeddings ? 1 : 2) * vocabulary + hidden;
}

}  // namespace ringweave::config
