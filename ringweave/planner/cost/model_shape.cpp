#include "ringweave/planner/cost/model_shape.h"

#include <algorithm>
#include <initializer_list>
#include <vector>

#include "ringweave/base/error.h"
#include "ringweave/schedule/layout/layout.h"

namespace ringweave::planner {
namespace {

const std::vector<std::string> kTypes = {"float64", "float32", "bfloat16"};
const std::vector<std::string> kKinds = {"basic", "lightning", "gla"};

constexpr std::int64_t kMaxLayers = 1 << 20;
constexpr std::int64_t kMaxHeads = 1 << 20;
constexpr std::int64_t kMaxHeadDim = 1 << 16;
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

// The defaults are those of models::ModelConfig.
void read_model(JsonObject object, ModelShape& shape) {
  // These say nothing of the shape, but are known.
  object.integer("vocab_size", 1, 1);
  object.integer("intermediate", 1, 1);
  object.number("rope_theta", 0, 0);
  object.number("norm_eps", 0, 0);
  object.boolean("tie_embeddings", false);
  const std::int64_t hidden = object.integer("hidden", 1, 128);
  shape.layers = object.integer("layers", 1, 4);
  shape.heads = object.integer("heads", 1, 4);
  shape.kv_heads = object.integer("kv_heads", 1, shape.heads);
  require(object.has("head_dim") || hidden % shape.heads == 0,
          "[{}.head_dim] got none, and hidden {} does not divide by {} heads; "
          "want head_dim",
          object.path(), hidden, shape.heads);
  shape.head_dim = object.integer("head_dim", 1, hidden / shape.heads);
  shape.pattern = object.string("pattern", "LLLN");
  JsonObject linear = object.object("linear");
  shape.linear_kind = linear.choice("kind", kKinds, "basic");
  shape.normaliser =
      shape.linear_kind == "basic" &&
      linear.choice("feature_map", {"elu1", "identity"}, "elu1") == "elu1";
  if (shape.linear_kind == "gla") {
    linear.integer("gate_rank", 1, 1);
    linear.number("gate_divisor", 0, 1);
  }
  linear.done();
  object.done();
}

std::int64_t read_batch(JsonObject data) {
  data.strings("files", std::vector<std::string>());
  data.strings("validation_files", std::vector<std::string>());
  data.number("validation_fraction", 0, 0);
  data.integer("seq_len", 1, 1);  // RunSettings'
  const std::int64_t batch = data.integer("batch", 1, 4);
  data.done();
  return batch;
}

void read_config(JsonObject object, ModelShape& shape) {
  check_format(object, "ringweave.config", 1);
  shape.dtype = object.choice("compute", kTypes, "float32");
  shape.batch = read_batch(object.object("data"));
  read_model(object.object("model"), shape);
  for (const char* section :
       {"optimizer", "parallel", "validation", "time_outs"}) {
    object.object(section);
  }
  for (const char* field : {"steps", "seed", "threads"}) {
    object.integer(field, 0, 0);
  }
  object.done();
}

}  // namespace

std::int64_t ModelShape::softmax_layers() const {
  const auto period = static_cast<std::int64_t>(pattern.size());
  const auto rest = pattern.begin() + layers % period;
  return layers / period * std::count(pattern.begin(), pattern.end(), 'N') +
         std::count(pattern.begin(), rest, 'N');
}

std::int64_t ModelShape::value_bytes() const {
  return dtype == "float64" ? 8 : dtype == "float32" ? 4 : 2;
}

std::int64_t ModelShape::sum_bytes() const {
  return dtype == "float64" ? 8 : 4;
}

std::int64_t ModelShape::kv_token_bytes() const {
  return 2 * batch * kv_heads * head_dim * value_bytes();
}

std::int64_t ModelShape::grad_token_bytes() const {
  return 2 * batch * kv_heads * head_dim * sum_bytes();
}

std::int64_t ModelShape::state_numbers() const {
  return batch * heads * head_dim * (head_dim + (normaliser ? 1 : 0));
}

std::int64_t ModelShape::decay_numbers() const {
  return linear_kind == "gla" ? batch * heads * head_dim : 0;
}

void check(const ModelShape& shape, const std::string& path,
           std::int64_t tokens) {
  const auto within = [&](const char* field, std::int64_t value,
                          std::int64_t most) {
    require(value >= 1 && value <= most, "[{}.{}] got {}; want 1 … {}", path,
            field, value, most);
  };
  within("layers", shape.layers, kMaxLayers);
  within("heads", shape.heads, kMaxHeads);
  within("kv_heads", shape.kv_heads, kMaxHeads);
  within("head_dim", shape.head_dim, kMaxHeadDim);
  within("batch", shape.batch, kMaxBatch);
  require(tokens <= kMaxSequence, "[{}] got {} tokens; want at most {}", path,
          tokens, kMaxSequence);
  require(
      few_numbers({shape.batch, shape.heads, shape.head_dim,
                   std::max(shape.head_dim + 1, tokens)}),
      "[{}] got batch {}, heads {}, head_dim {} and {} tokens; want batch x "
      "heads x head_dim, times the tokens or head_dim + 1, of at most {} "
      "numbers",
      path, shape.batch, shape.heads, shape.head_dim, tokens, kMaxNumbers);
  require(shape.heads % shape.kv_heads == 0,
          "[{}.heads] got {} heads and {} kv_heads; want a multiple of "
          "kv_heads",
          path, shape.heads, shape.kv_heads);
  require(!shape.pattern.empty() &&
              shape.pattern.find_first_not_of("LN") == std::string::npos,
          "[{}.pattern] got \"{}\"; want letters L (linear) and N (softmax)",
          path, shape.pattern);
}

ModelShape model_shape_from_json(const Json& json, const std::string& path) {
  JsonObject object(json, path);
  ModelShape shape;
  require(!json.empty(),
          "[{}] got {{}}; want a config of train, or a model object with at "
          "least one field",
          path);
  if (object.has("format") || object.has("model")) {
    read_config(object, shape);
    check(shape, path + ".model");
  } else {
    read_model(object, shape);
    check(shape, path);
  }
  return shape;
}

RunSettings run_settings_from_json(const Json& json, const std::string& path) {
  JsonObject object(json, path);
  RunSettings run;
  JsonObject data = object.object("data");
  if (data.has("seq_len")) run.seq_len = data.integer("seq_len", 1);
  JsonObject parallel = object.object("parallel");
  const auto text = [&](const char* key, std::optional<std::string>& value) {
    // Empty, as in a resolved config: none.
    if (const std::string got = parallel.string(key, ""); !got.empty()) {
      value = got;
    }
  };
  text("topology", run.topology);
  text("device", run.device);
  if (parallel.has("layout")) {
    run.layout = parallel.choice("layout", schedule::Layout::names());
  }
  if (parallel.has("ranks")) run.ranks = parallel.integer("ranks", 1);
  const auto number = [&](const char* key, std::optional<double>& value) {
    if (const double got = parallel.number(key, 0, 0); got > 0) value = got;
  };
  number("memory_limit_bytes", run.memory_limit_bytes);
  number("message_overhead_seconds", run.message_overhead_seconds);
  // These say how the run is to travel, which a plan is to find.
  for (const char* key : {"softmax", "linear", "plan", "grad_payload"}) {
    parallel.string(key, "");
  }
  parallel.done();
  return run;
}

Json to_json(const ModelShape& shape) {
  Json json = {{"layers", shape.layers},     {"pattern", shape.pattern},
               {"heads", shape.heads},       {"kv_heads", shape.kv_heads},
               {"head_dim", shape.head_dim}, {"linear", shape.linear_kind}};
  if (shape.linear_kind == "basic") json["normaliser"] = shape.normaliser;
  json["compute"] = shape.dtype;
  json["batch"] = shape.batch;
  return json;
}

ModelShape saved_model_shape(const Json& json, const std::string& path) {
  JsonObject object(json, path);
  ModelShape shape;
  shape.layers = object.integer("layers", 1);
  shape.pattern = object.string("pattern");
  shape.heads = object.integer("heads", 1);
  shape.kv_heads = object.integer("kv_heads", 1);
  shape.head_dim = object.integer("head_dim", 1);
  shape.linear_kind = object.choice("linear", kKinds);
  if (shape.linear_kind == "basic") {
    shape.normaliser = object.boolean("normaliser");
  }
  shape.dtype = object.choice("compute", kTypes);
  shape.batch = object.integer("batch", 1);
  object.done();
  check(shape, path);
  return shape;
}

}  // namespace ringweave::planner
