#include "ringweave/config/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave::config {
namespace {

using ::testing::HasSubstr;

ModelConfig read_model(const std::string& text) {
  return model_config_from_json(parse_json(text, "t"), "config.model");
}

std::string refused_model(const std::string& text) {
  try {
    read_model(text);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown for " << text;
  return "";
}

TEST(ModelConfig, DefaultsFollowFromHeadsAndHidden) {
  const ModelConfig config = read_model(R"({"hidden": 96, "heads": 6})");
  EXPECT_EQ(config.kv_heads, 6);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.pattern, "LLLN");
}

TEST(ModelConfig, SurvivesJson) {
  for (const char* linear :
       {R"({"kind": "basic", "feature_map": "identity"})",
        R"({"kind": "lightning"})",
        R"({"kind": "gla", "gate_rank": 8, "gate_divisor": 4})",
        R"({"kind": "based", "convolution": 4})"}) {
    const ModelConfig config = read_model(fmt::format(
        R"({{"vocab_size": 300, "hidden": 48, "intermediate": 7, "layers": 5,
             "heads": 6, "kv_heads": 3, "head_dim": 10, "pattern": "LN",
             "rope_theta": 5e5, "norm_eps": 1e-6, "tie_embeddings": true,
             "linear": {}}})",
        linear));
    const Json json = to_json(config);
    EXPECT_EQ(model_config_from_json(json, "again"), config) << json.dump();
    EXPECT_EQ(config.kv_heads, 3);
    EXPECT_TRUE(config.tie_embeddings);
  }
}

TEST(ModelConfig, RopeScalingIsLlama3s) {
  const auto with = [](const char* changes) {
    Json scaling = {{"rope_type", "llama3"},
                    {"factor", 8},
                    {"low_freq_factor", 1},
                    {"high_freq_factor", 4},
                    {"original_max_position_embeddings", 64}};
    scaling.merge_patch(parse_json(changes, "t"));
    return Json({{"rope_scaling", scaling}}).dump();
  };
  const ModelConfig config = read_model(with("{}"));
  EXPECT_EQ(config.rope_scaling,
            (RopeScaling{.factor = 8, .original_max_position_embeddings = 64}));
  EXPECT_EQ(model_config_from_json(to_json(config), "again"), config);
  EXPECT_FALSE(to_json(read_model("{}")).contains("rope_scaling"));
  for (const auto& [changes, word] :
       {std::pair(R"({"rope_type": "yarn"})", "rope_type] got \"yarn\""),
        std::pair(R"({"rope_type": null})", "rope_type"),
        std::pair(R"({"factor": 0.5})", "factor] got 0.5"),
        std::pair(R"({"low_freq_factor": 0})", "low_freq_factor] got 0"),
        std::pair(R"({"high_freq_factor": 1})", "high_freq_factor] got 1"),
        std::pair(R"({"beta": 1})", "beta")}) {
    EXPECT_THAT(refused_model(with(changes)), HasSubstr(word)) << changes;
  }
}

TEST(ModelConfig, ThePatternRepeats) {
  const ModelConfig config = read_model(R"({"pattern": "LLN", "layers": 7})");
  std::string kinds;
  for (std::int64_t i = 0; i < 7; ++i) kinds += config.is_linear(i) ? 'L' : 'N';
  EXPECT_EQ(kinds, "LLNLLNL");
  EXPECT_TRUE(config.has_linear());
  EXPECT_TRUE(config.has_softmax());
  // The first layers alone count, not the whole pattern.
  EXPECT_FALSE(read_model(R"({"layers": 3})").has_softmax());
  EXPECT_FALSE(read_model(R"({"pattern": "N"})").has_linear());
}

TEST(ModelConfig, EachFaultIsOneClearError) {
  EXPECT_THAT(refused_model(R"({"hiden": 8})"),
              HasSubstr("[config.model] got the unknown key \"hiden\"; want "
                        "\"hidden\"?"));
  EXPECT_THAT(refused_model(R"({"heads": 4, "kv_heads": 3})"),
              HasSubstr("[config.model.heads] got 4 heads and 3 kv_heads; want "
                        "a multiple of kv_heads"));
  EXPECT_THAT(refused_model(R"({"hidden": 10, "heads": 4})"),
              HasSubstr("hidden 10 does not divide by 4 heads"));
  EXPECT_THAT(refused_model(R"({"head_dim": 7})"),
              HasSubstr("[config.model.head_dim] got 7; want an even number"));
  EXPECT_NO_THROW(read_model(R"({"head_dim": 7, "pattern": "L"})"));
  EXPECT_THAT(refused_model(R"({"pattern": "LLXN"})"),
              HasSubstr("got the letter 'X' at place 3 of \"LLXN\""));
  EXPECT_THAT(refused_model(R"({"pattern": ""})"), HasSubstr("empty pattern"));
  EXPECT_THAT(refused_model(R"({"layers": 0})"),
              HasSubstr("[config.model.layers] got 0; want an integer ≥ 1"));
  EXPECT_THAT(refused_model(R"({"hidden": 128.0})"),
              HasSubstr("[config.model.hidden] got 128.0"));
  EXPECT_THAT(refused_model(R"({"norm_eps": 0})"),
              HasSubstr("[config.model.norm_eps] got 0"));
  EXPECT_THAT(refused_model(R"({"rope_theta": -1})"),
              HasSubstr("[config.model.rope_theta] got -1"));
  EXPECT_THAT(refused_model("[]"), HasSubstr("want an object"));
}

TEST(ModelConfig, FieldsOfAnotherKindAreUnknown) {
  EXPECT_THAT(refused_model(R"({"linear": {"kind": "glaa"}})"),
              HasSubstr("want one of \"gla\""));
  EXPECT_THAT(
      refused_model(R"({"linear": {"kind": "gla", "feature_map": "elu1"}})"),
      HasSubstr("[config.model.linear] got the unknown key \"feature_map\""));
  EXPECT_THAT(refused_model(R"({"linear": {"gate_rank": 8}})"),
              HasSubstr("unknown key \"gate_rank\""));
  EXPECT_THAT(
      refused_model(R"({"linear": {"kind": "gla", "gate_divisor": 0}})"),
      HasSubstr("[config.model.linear.gate_divisor] got 0; want a "
                "finite number above 0"));
  EXPECT_THAT(refused_model(R"({"linear": {"kind": "gla", "gate_rank": 0}})"),
              HasSubstr("[config.model.linear.gate_rank] got 0"));
  EXPECT_THAT(
      refused_model(R"({"linear": {"kind": "gla", "gate_rank": "two"}})"),
      HasSubstr("[config.model.linear.gate_rank] got \"two\""));
  EXPECT_THAT(refused_model(R"({"linear": {"kind": "gla", "gate_rnk": 2}})"),
              HasSubstr("want \"gate_rank\"?"));
  EXPECT_THAT(refused_model(R"({"linear": {"feature_map": "elu"}})"),
              HasSubstr("want one of \"elu1\", \"identity\""));
}

TEST(LinearConfig, EveryFamilyMayHaveAConvolution) {
  for (const std::string& kind : linear_family_names()) {
    LinearConfig config(kind);
    config.set("convolution", 8);
    EXPECT_EQ(config.convolution(), 8) << kind;
    EXPECT_EQ(to_json(config).at("convolution"), 8);
    for (const int refused : {-1, 1, 9}) {
      EXPECT_THROW(config.set("convolution", refused), InvalidArgument);
    }
  }
  EXPECT_EQ(LinearConfig("gla").convolution(), 0);
  EXPECT_THAT(refused_model(R"({"linear": {"convolution": 1}})"),
              HasSubstr("[config.model.linear.convolution] got 1; want 0 for "
                        "none, or at least 2"));
  EXPECT_THAT(refused_model(R"({"linear": {"convolution": 9}})"),
              HasSubstr("want at most 8"));
}

TEST(LinearConfig, HasTheFieldsOfItsFamilyAndNoOthers) {
  LinearConfig config("gla");
  EXPECT_EQ(config.integer("gate_rank"), 16);
  EXPECT_EQ(config.number("gate_divisor"), 16.0);
  config.set("gate_rank", 3);
  config.set("gate_divisor", 4);  // an integer is a number
  EXPECT_EQ(config.integer("gate_rank"), 3);
  EXPECT_EQ(config.number("gate_divisor"), 4.0);
  EXPECT_NE(config, LinearConfig("gla"));
  EXPECT_EQ(LinearConfig().word("feature_map"), "elu1");
  EXPECT_THROW(config.set("gate_rank", 0), InvalidArgument);
  EXPECT_THROW(config.set("feature_map", "elu1"), InvalidArgument);
  EXPECT_EQ(config.integer("gate_rank"), 3);  // as before
  EXPECT_THROW(config.integer("gate_divisor"), InternalError);
  EXPECT_THROW(config.word("feature_map"), InternalError);
  EXPECT_THROW(LinearConfig("glaa"), InvalidArgument);
}

TEST(LinearFamily, StatesAreOfTheHeadsThatTheRowSays) {
  ModelConfig config =
      read_model(R"({"heads": 6, "kv_heads": 2, "head_dim": 10})");
  EXPECT_EQ(config.linear.family().state(config), (StateShape{2, 10, 11}));
  config.linear.set("feature_map", "identity");
  EXPECT_EQ(config.linear.family().state(config), (StateShape{2, 10, 10}));
  config.linear = LinearConfig("gla");
  EXPECT_EQ(config.linear.family().state(config), (StateShape{2, 10, 10}));
  config.linear = LinearConfig("lightning");  // a decay per query head
  EXPECT_EQ(config.linear.family().state(config), (StateShape{6, 10, 10}));
}

TEST(LinearFamily, AConvolutionHasItsKernelPerChannel) {
  for (const auto& [kind, channels] :
       {std::pair("gla", 4 * 10 + 2 * 2 * 10),
        std::pair("based", (4 + 2) * 16 + 2 * 10)}) {
    ModelConfig config =
        read_model(R"({"heads": 4, "kv_heads": 2, "head_dim": 10,
                                  "layers": 8})");
    config.linear = LinearConfig(kind);
    const double without = weight_count(config);
    config.linear.set("convolution", 3);
    EXPECT_EQ(weight_count(config) - without, 6 * 3 * channels) << kind;
  }
}

TEST(LinearFamily, ASecondOfANameIsRefused) {
  LinearFamily family = linear_family("lightning");
  EXPECT_THROW(add_linear_family(family), InvalidArgument);
  family.name = "model_config_test";
  add_linear_family(family);
  EXPECT_EQ(linear_family_names().back(), "model_config_test");
  const ModelConfig config =
      read_model(R"({"linear": {"kind": "model_config_test"}})");
  EXPECT_EQ(model_config_from_json(to_json(config), "again"), config);
  EXPECT_EQ(config.linear.family().decay, schedule::Decay::constant);
}

TEST(ModelConfig, CountsLayersByPeriods) {
  EXPECT_EQ(softmax_layers("NLLN", 11), 5);
  EXPECT_EQ(softmax_layers("NLLN", 2), 1);
  // Ends at once: a loop over the layers would take centuries.
  EXPECT_EQ(softmax_layers("NLLN", std::int64_t{1} << 60),
            std::int64_t{1} << 59);
}

}  // namespace
}  // namespace ringweave::config
