#include "ringweave/planner/cost/model_shape.h"

#include <algorithm>
#include <initializer_list>

#include "ringweave/base/error.h"
#include "ringweave/base/limits.h"

namespace ringweave::planner {
namespace {

constexpr std::int64_t kMaxLayers = 1 << 20;
constexpr std::int64_t kMaxHeads = 1 << 20;
constexpr std::int64_t kMaxBatch = std::int64_t{1} << 31;
/// All pairs of them are counted in int64.
constexpr std::int64_t kMaxSequence = std::int64_t{1} << 31;
/// Of one layer's keys, values or states. Times 16 bytes and 128 ranks it
/// stays below 2^62.
constexpr std::int64_t kMaxNumbers = std::int64_t{1} << 50;

/// Whether the product of positive factors is at most kMaxNumbers.
bool few_numbers(std::initializer_list<std::int64_t> factors) {
  std::int64_t room = kMaxNumbers;
  for (const std::int64_t factor : factors) room /= factor;
  return room >= 1;
}

void within(const std::string& path, const char* field, std::int64_t value,
            std::int64_t most) {
  require(value >= 1 && value <= most, "[{}.{}] got {}; want 1 … {}", path,
          field, value, most);
}

void check_sizes(const ModelShape& shape, const std::string& path,
                 std::int64_t tokens) {
  within(path, "layers", shape.layers, kMaxLayers);
  within(path, "heads", shape.heads, kMaxHeads);
  within(path, "kv_heads", shape.kv_heads, kMaxHeads);
  within(path, "head_dim", shape.head_dim, kMaxHeadDim);
  within(path, "batch", shape.batch, kMaxBatch);
  require(tokens <= kMaxSequence, "[{}] got {} tokens; want at most {}", path,
          tokens, kMaxSequence);
  require(few_numbers({shape.batch, shape.heads, shape.head_dim,
                       std::max<std::int64_t>(1, tokens)}),
          "[{}] got batch {}, heads {}, head_dim {} and {} tokens; want batch "
          "x heads x head_dim x tokens of at most {} numbers",
          path, shape.batch, shape.heads, shape.head_dim, tokens, kMaxNumbers);
}

void check_state(const ModelShape& shape, const std::string& path) {
  const config::StateShape& state = shape.state;
  // A normaliser is one more column.
  within(path, "state.heads", state.heads, kMaxHeads);
  within(path, "state.key_dim", state.key_dim, kMaxHeadDim + 1);
  within(path, "state.value_dim", state.value_dim, kMaxHeadDim + 1);
  require(shape.state_decays >= 0 && shape.state_decays <= state.key_dim,
          "[{}.state.decays] got {}; want 0 … key_dim {}", path,
          shape.state_decays, state.key_dim);
  require(
      few_numbers({shape.batch, state.heads, state.key_dim, state.value_dim}),
      "[{}.state] got batch {}, heads {}, key_dim {} and value_dim {}; want a "
      "product of at most {} numbers",
      path, shape.batch, state.heads, state.key_dim, state.value_dim,
      kMaxNumbers);
}

/// What follows from the model's linear layers. The sizes have been checked.
void set_state(ModelShape& shape, const config::ModelConfig& model) {
  const config::LinearFamily& family = model.linear.family();
  shape.linear = family.name;
  shape.state = family.state(model);
  shape.state_decays =
      schedule::summary_decays(family.decay, shape.state.key_dim);
}

/// Before files said it in "state", they said of basic layers whether these
/// have a normaliser.
void read_old_state(JsonObject& object, ModelShape& shape) {
  config::ModelConfig model{.heads = shape.heads,
                            .kv_heads = shape.kv_heads,
                            .head_dim = shape.head_dim,
                            .linear = config::LinearConfig(shape.linear)};
  if (shape.linear == "basic" && !object.boolean("normaliser")) {
    model.linear.set("feature_map", "identity");
  }
  set_state(shape, model);
}

void read_state(JsonObject object, ModelShape& shape) {
  shape.state.heads = object.integer("heads", 1);
  shape.state.key_dim = object.integer("key_dim", 1);
  shape.state.value_dim = object.integer("value_dim", 1);
  shape.state_decays = object.integer("decays", 0);
  object.done();
}

}  // namespace

std::int64_t ModelShape::softmax_layers() const {
  return config::softmax_layers(pattern, layers);
}

std::int64_t ModelShape::sum_bytes() const {
  return element_bytes(accumulate_type(type));
}

std::int64_t ModelShape::kv_token_bytes() const {
  return 2 * batch * kv_heads * head_dim * value_bytes();
}

std::int64_t ModelShape::grad_token_bytes() const {
  return 2 * batch * kv_heads * head_dim * sum_bytes();
}

std::int64_t ModelShape::state_numbers() const {
  return batch * state.heads * state.key_dim * state.value_dim;
}

std::int64_t ModelShape::decay_numbers() const {
  return batch * state.heads * state_decays;
}

ModelShape model_shape(const config::ModelConfig& model, ElementType type,
                       std::int64_t batch, const std::string& path) {
  config::check(model, path);
  ModelShape shape{.layers = model.layers,
                   .pattern = model.pattern,
                   .heads = model.heads,
                   .kv_heads = model.kv_heads,
                   .head_dim = model.head_dim,
                   .type = type,
                   .batch = batch};
  check_sizes(shape, path, 1);
  set_state(shape, model);
  check_state(shape, path);
  return shape;
}

void check(const ModelShape& shape, const std::string& path,
           std::int64_t tokens) {
  check_sizes(shape, path, tokens);
  check_state(shape, path);
  config::check_heads(shape.heads, shape.kv_heads, path);
  config::check_pattern(shape.pattern, path);
}

Json to_json(const ModelShape& shape) {
  return {{"layers", shape.layers},
          {"pattern", shape.pattern},
          {"heads", shape.heads},
          {"kv_heads", shape.kv_heads},
          {"head_dim", shape.head_dim},
          {"linear", shape.linear},
          {"state",
           {{"heads", shape.state.heads},
            {"key_dim", shape.state.key_dim},
            {"value_dim", shape.state.value_dim},
            {"decays", shape.state_decays}}},
          {"compute", name(shape.type)},
          {"batch", shape.batch}};
}

ModelShape saved_model_shape(const Json& json, const std::string& path) {
  JsonObject object(json, path);
  ModelShape shape;
  shape.layers = object.integer("layers", 1);
  shape.pattern = object.string("pattern");
  shape.heads = object.integer("heads", 1);
  shape.kv_heads = object.integer("kv_heads", 1);
  shape.head_dim = object.integer("head_dim", 1);
  shape.type =
      model_type_from_name(object.choice("compute", model_type_names()));
  shape.batch = object.integer("batch", 1);
  check_sizes(shape, path, 1);
  shape.linear = object.choice("linear", config::linear_family_names());
  if (object.has("state")) {
    read_state(object.object("state"), shape);
  } else {
    read_old_state(object, shape);
  }
  object.done();
  check(shape, path);
  return shape;
}

}  // namespace ringweave::planner
