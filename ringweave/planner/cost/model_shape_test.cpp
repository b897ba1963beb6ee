#include "ringweave/planner/cost/model_shape.h"

#include <cstdint>
#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave::planner {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

config::ModelConfig model_of(const std::string& kind) {
  config::ModelConfig model{
      .layers = 6, .heads = 4, .kv_heads = 2, .head_dim = 16, .pattern = "LLN"};
  model.linear = config::LinearConfig(kind);
  return model;
}

TEST(ModelShape, CountsWhatAModelTakes) {
  const ModelShape shape =
      model_shape(model_of("gla"), ElementType::bfloat16, 3, "model");
  EXPECT_EQ(shape.softmax_layers(), 2);
  EXPECT_EQ(shape.linear_layers(), 4);
  EXPECT_EQ(shape.head_dim, 16);
  EXPECT_EQ(shape.kv_token_bytes(), 2 * 3 * 2 * 16 * 2);
  EXPECT_EQ(shape.grad_token_bytes(), 2 * 3 * 2 * 16 * 4);
  EXPECT_EQ(shape.state_numbers(), 3 * 2 * 16 * 16);
  EXPECT_EQ(shape.decay_numbers(), 3 * 2 * 16);
}

TEST(ModelShape, ANormaliserIsOneMoreColumn) {
  config::ModelConfig model = model_of("basic");
  const ModelShape shape = model_shape(model, ElementType::float64, 1, "model");
  EXPECT_EQ(shape.state_numbers(), 2 * 16 * 17);
  EXPECT_EQ(shape.decay_numbers(), 0);
  EXPECT_EQ(shape.sum_bytes(), 8);
  model.linear.set("feature_map", "identity");
  EXPECT_EQ(
      model_shape(model, ElementType::float64, 1, "model").state_numbers(),
      2 * 16 * 16);
}

TEST(ModelShape, SurvivesAPlanFile) {
  for (const std::string& kind : config::linear_family_names()) {
    const ModelShape shape =
        model_shape(model_of(kind), ElementType::float32, 2, "model");
    EXPECT_EQ(saved_model_shape(to_json(shape), "plan"), shape) << kind;
  }
}

TEST(ModelShape, OldPlanFilesSayWhetherThereIsANormaliser) {
  Json json =
      to_json(model_shape(model_of("basic"), ElementType::float32, 2, "model"));
  json.erase("state");
  json["normaliser"] = true;
  EXPECT_EQ(saved_model_shape(json, "plan").state.value_dim, 17);
  json["normaliser"] = false;
  EXPECT_EQ(saved_model_shape(json, "plan").state.value_dim, 16);
  json.erase("normaliser");
  EXPECT_THAT([&] { saved_model_shape(json, "plan"); },
              ThrowsMessage<InvalidArgument>(HasSubstr("plan.normaliser")));
  const ModelShape gla =
      model_shape(model_of("gla"), ElementType::float32, 2, "model");
  json = to_json(gla);
  json.erase("state");
  EXPECT_EQ(saved_model_shape(json, "plan"), gla);
}

TEST(ModelShape, CountsLayersByPeriods) {
  ModelShape shape{.layers = 11, .pattern = "NLLN"};
  EXPECT_EQ(shape.softmax_layers(), 5);
  shape.layers = 2;
  EXPECT_EQ(shape.softmax_layers(), 1);
}

TEST(ModelShape, EveryProductFitsInt64) {
  const auto fails = [](ModelShape shape, const char* words,
                        std::int64_t tokens = 1) {
    EXPECT_THAT([&] { check(shape, "m", tokens); },
                ThrowsMessage<InvalidArgument>(HasSubstr(words)));
  };
  constexpr auto kHuge = std::numeric_limits<std::int64_t>::max();
  fails({.layers = kHuge}, "[m.layers] got 9223372036854775807; want 1 … ");
  fails({.heads = kHuge, .kv_heads = kHuge}, "[m.heads] got 922");
  fails({.kv_heads = kHuge}, "[m.kv_heads] got 922");
  fails({.head_dim = std::int64_t{1} << 62}, "[m.head_dim] got 4611686");
  fails({.batch = kHuge}, "[m.batch] got 922");
  fails({.state = {kHuge, 1, 1}}, "[m.state.heads] got 922");
  fails({.state = {1, kHuge, 1}}, "[m.state.key_dim] got 922");
  fails({.state = {1, 1, kHuge}}, "[m.state.value_dim] got 922");
  fails({.state = {1, 8, 1}, .state_decays = 9}, "[m.state.decays] got 9");
  // Each fits, the product does not.
  fails({.state = {1 << 20, 1 << 16, 1 << 16}},
        "heads 1048576, key_dim 65536 and value_dim 65536");
  const ModelShape large{.heads = 128, .head_dim = 256, .batch = 1024};
  EXPECT_NO_THROW(check(large, "m", 1 << 20));
  fails(large, "67108864 tokens; want batch x heads", 1 << 26);
  fails({}, "1099511627776 tokens; want at most 2147483648",
        std::int64_t{1} << 40);
  // Of a model, before any product is taken.
  const auto huge = [](std::int64_t config::ModelConfig::*field) {
    config::ModelConfig model = model_of("gla");
    model.*field = kHuge - 1;
    return [model] { model_shape(model, ElementType::float32, 1, "m"); };
  };
  EXPECT_THAT(huge(&config::ModelConfig::head_dim),
              ThrowsMessage<InvalidArgument>(HasSubstr("[m.head_dim] got")));
  EXPECT_THAT(huge(&config::ModelConfig::heads),
              ThrowsMessage<InvalidArgument>(HasSubstr("[m.heads] got")));
  EXPECT_THAT(huge(&config::ModelConfig::layers),
              ThrowsMessage<InvalidArgument>(HasSubstr("[m.layers] got")));
}

TEST(ModelShape, RefusesWhatNoModelHas) {
  const auto fails = [](ModelShape shape, const char* words) {
    EXPECT_THAT([&] { check(shape, "m"); },
                ThrowsMessage<InvalidArgument>(HasSubstr(words)));
  };
  fails({.heads = 4, .kv_heads = 3}, "[m.heads] got 4 heads and 3 kv_heads");
  fails({.pattern = "LNX"}, "LNX");
  fails({.pattern = ""}, "empty pattern");
}

}  // namespace
}  // namespace ringweave::planner
