#include "ringweave/plan/model_shape.h"

#include <algorithm>
#include <vector>

#include "ringweave/base/error.h"

namespace ringweave::plan {
namespace {

const std::vector<std::string> kTypes = {"float64", "float32", "bfloat16"};
const std::vector<std::string> kKinds = {"basic", "lightning", "gla"};

// The defaults are those of models::ModelConfig.
void read_model(JsonObject object, ModelShape& shape) {
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
}

}  // namespace

std::int64_t ModelShape::softmax_layers() const {
  std::int64_t count = 0;
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    count += pattern[static_cast<std::size_t>(layer) % pattern.size()] == 'N';
  }
  return count;
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

void check(const ModelShape& shape, const std::string& path) {
  const auto positive = [&](const char* field, std::int64_t value) {
    require(value >= 1, "[{}.{}] got {}; want at least 1", path, field, value);
  };
  positive("layers", shape.layers);
  positive("heads", shape.heads);
  positive("kv_heads", shape.kv_heads);
  positive("head_dim", shape.head_dim);
  positive("batch", shape.batch);
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
  if (object.has("format")) {
    check_format(object, "ringweave.config", 1);
    shape.dtype = object.choice("compute", kTypes, "float32");
    JsonObject data = object.object("data");
    shape.batch = data.integer("batch", 1, 4);
    read_model(object.object("model"), shape);
    check(shape, path + ".model");
  } else {
    read_model(object, shape);
    check(shape, path);
  }
  return shape;
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

}  // namespace ringweave::plan
