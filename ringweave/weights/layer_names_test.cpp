#include "ringweave/weights/layer_names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ringweave::weights {
namespace {

using ::testing::ElementsAre;

TEST(LayerNames, LayersAreJoined) {
  EXPECT_THAT(
      by_layers({"model.embed_tokens.weight", "model.layers.0.a.weight",
                 "model.layers.0.b", "model.layers.1.a.weight",
                 "model.layers.2.a.weight", "model.layers.2.b",
                 "model.layers.10.b", "model.layers.x.b", "model.layers.7"}),
      ElementsAre("model.embed_tokens.weight", "model.layers.0-2.a.weight",
                  "model.layers.0,2,10.b", "model.layers.x.b",
                  "model.layers.7"));
  EXPECT_TRUE(by_layers({}).empty());
}

TEST(LayerNames, OfLinearLayersAlone) {
  config::ModelConfig model;
  model.pattern = "LN";
  const auto alone = [&](const std::string& name) {
    return is_linear_alone(model, name);
  };
  EXPECT_TRUE(alone("model.layers.0.self_attn.g_norm.weight"));
  EXPECT_TRUE(alone("model.layers.2.self_attn.gk_proj.1.bias"));
  for (const char* name :
       {"model.layers.1.self_attn.g_norm.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.0.input_layernorm.weight", "model.norm.weight",
        "self_attn.g_norm.weight", "model.layers.x.self_attn.g_norm.weight"}) {
    EXPECT_FALSE(alone(name)) << name;
  }
}

}  // namespace
}  // namespace ringweave::weights
