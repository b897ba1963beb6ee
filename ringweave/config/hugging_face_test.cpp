#include "ringweave/config/hugging_face.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "ringweave/base/error.h"

namespace ringweave::config {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// What both versions write alike.
Json sizes() {
  return parse_json(R"({
    "architectures": ["LlamaForCausalLM"], "model_type": "llama",
    "vocab_size": 300, "hidden_size": 48, "intermediate_size": 7,
    "num_hidden_layers": 5, "num_attention_heads": 6, "num_key_value_heads": 3,
    "head_dim": 10, "hidden_act": "silu", "rms_norm_eps": 1e-06,
    "max_position_embeddings": 4096, "tie_word_embeddings": true,
    "attention_bias": false, "mlp_bias": false, "attention_dropout": 0.0,
    "bos_token_id": 1, "eos_token_id": [2, 3], "use_cache": true,
    "initializer_range": 0.02, "pretraining_tp": 1})",
                    "t");
}

Json with(Json json, const std::string& fields) {
  json.update(parse_json(fields, "t"));
  return json;
}

constexpr const char* kLlama3 = R"("rope_type": "llama3", "factor": 8.0,
  "low_freq_factor": 1.0, "high_freq_factor": 4.0,
  "original_max_position_embeddings": 1024)";

ModelConfig read(const Json& json) {
  return model_config_from_hugging_face(json, "F/config.json");
}

std::string refusal(const Json& json) {
  try {
    read(json);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "accepted";
}

TEST(HuggingFace, BothVersionsSayTheSame) {
  const ModelConfig four =
      read(with(sizes(), fmt::format(R"({{"rope_theta": 500000.0, "torch_dtype":
        "bfloat16", "rope_scaling": {{{}}}}})",
                                     kLlama3)));
  const ModelConfig five = read(
      with(sizes(), fmt::format(R"({{"dtype": "bfloat16", "rope_parameters":
        {{"rope_theta": 500000.0, {}}}}})",
                                kLlama3)));
  EXPECT_EQ(four, five);
  EXPECT_EQ(to_json(four), to_json(model_config_from_json(parse_json(R"({
    "vocab_size": 300, "hidden": 48, "intermediate": 7, "layers": 5,
    "heads": 6, "kv_heads": 3, "head_dim": 10, "pattern": "N",
    "rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", "factor": 8,
      "low_freq_factor": 1, "high_freq_factor": 4,
      "original_max_position_embeddings": 1024},
    "norm_eps": 1e-6, "tie_embeddings": true,
    "max_position_embeddings": 4096})",
                                                                     "t"),
                                                          "t")));
}

TEST(HuggingFace, WhatIsAbsentOrNullIsTheDefault) {
  Json json = with(sizes(), R"({"num_key_value_heads": null, "head_dim": null,
    "rope_scaling": null, "sliding_window": null, "hidden_act": null})");
  json.erase("tie_word_embeddings");
  const ModelConfig model = read(json);
  EXPECT_EQ(model.kv_heads, 6);
  EXPECT_EQ(model.head_dim, 8);
  EXPECT_EQ(model.rope_theta, 10000);
  EXPECT_FALSE(model.rope_scaling.has_value());
  EXPECT_FALSE(model.tie_embeddings);
  // As older versions wrote it.
  EXPECT_EQ(read(with(json, R"({"rope_scaling": {"type": "default"}})")),
            model);
}

TEST(HuggingFace, WhatCannotBeHonouredIsRefusedByName) {
  const std::vector<std::array<std::string, 3>> cases = {
      {R"({"model_type": "qwen2"})", "model_type", "qwen2"},
      {R"({"attention_bias": true})", "attention_bias", "true"},
      {R"({"mlp_bias": true})", "mlp_bias", "true"},
      {R"({"hidden_act": "gelu"})", "hidden_act", "gelu"},
      {R"({"attention_dropout": 0.1})", "attention_dropout", "0.1"},
      {R"({"partial_rotary_factor": 0.5})", "partial_rotary_factor", "0.5"},
      {R"({"rope_parameters": {"partial_rotary_factor": 0.5}})",
       "rope_parameters.partial_rotary_factor", "0.5"},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}})",
       "rope_scaling.rope_type", "yarn"},
      {R"({"rope_scaling": {"type": "linear", "factor": 4.0}})",
       "rope_scaling.rope_type", "linear"},
      {R"({"rope_scaling": {"rope_type": "llama3", "factor": 4.0}})",
       "rope_scaling.low_freq_factor", "want"},
      {R"({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}})",
       "rope_parameters", "full_attention"},
      {R"({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 1e5}})",
       "rope_parameters.rope_theta", "one base"},
      {R"({"sliding_window": 64})", "sliding_window", "64"},
      {R"({"layer_types": ["full_attention", "sliding_attention"]})",
       "layer_types", "sliding_attention"},
      {R"({"quantization_config": {"bits": 4}})", "quantization_config",
       "bfloat16"},
      {R"({"hidden_size": null})", "hidden_size", "want"},
      {R"({"num_key_value_heads": 4})", "heads", "multiple"},
      {R"({"vocab_size": "300"})", "vocab_size", "\"300\""},
      {R"({"rms_norm_eps": 0})", "norm_eps", "above 0"},
  };
  for (const auto& [fields, name, word] : cases) {
    EXPECT_THAT(
        refusal(with(sizes(), fields)),
        AllOf(HasSubstr("F/config.json"), HasSubstr(name), HasSubstr(word)))
        << fields;
  }
  EXPECT_THAT(refusal(Json::array()), HasSubstr("want an object"));
  EXPECT_EQ(refusal(sizes()), "accepted");
}

TEST(HuggingFace, MistralHasAWindow) {
  const Json json = with(sizes(), R"({"model_type": "mistral",
    "sliding_window": 64, "layer_types": ["sliding_attention"]})");
  EXPECT_EQ(read(json).sliding_windows, std::vector<std::int64_t>{64});
  EXPECT_TRUE(read(with(sizes(), R"({"model_type": "mistral",
    "sliding_window": null})"))
                  .sliding_windows.empty());
  // Transformers would take 4096.
  EXPECT_THAT(refusal(with(sizes(), R"({"model_type": "mistral"})")),
              HasSubstr("sliding_window] got none"));
}

TEST(HuggingFace, WhatIsWrittenIsRead) {
  ModelConfig model = read(sizes());
  for (const std::vector<std::int64_t>& windows :
       {std::vector<std::int64_t>{}, {64}, {64, 64}}) {
    model.sliding_windows = windows;
    const Json json = to_hugging_face(model, "float32", 100);
    EXPECT_EQ(json["torch_dtype"], "float32");
    ModelConfig again = read(json);
    if (!windows.empty()) again.sliding_windows = windows;
    EXPECT_EQ(again, model) << json.dump();
  }
  model.sliding_windows = {};
  model.rope_scaling = RopeScaling{.factor = 2};
  EXPECT_EQ(read(to_hugging_face(model, "float32", 100)), model);
  model.max_position_embeddings = 0;
  EXPECT_EQ(to_hugging_face(model, "float32", 100)["max_position_embeddings"],
            100);
}

TEST(HuggingFace, WhatTransformersLacksIsNotWritten) {
  const auto refused = [](const ModelConfig& model) -> std::string {
    try {
      to_hugging_face(model, "float32", 1);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "accepted";
  };
  ModelConfig model = read(sizes());
  model.sliding_windows = {64, 0};
  EXPECT_THAT(refused(model), HasSubstr("64 and 0"));
  model.sliding_windows = {};
  model.pattern = "LLLN";
  EXPECT_THAT(refused(model), HasSubstr("pattern LLLN"));
}

class OfFolder : public ::testing::Test {
 protected:
  OfFolder()
      : path_(std::filesystem::temp_directory_path() /
              fmt::format("ringweave-of-folder-{}", getpid())) {
    std::filesystem::create_directories(path_);
    std::ofstream(path_ / "config.json") << sizes().dump();
  }
  ~OfFolder() override { std::filesystem::remove_all(path_); }

  /// The model of a config with this `model`.
  ModelConfig model(const std::string& model, const std::string& skip = "[]") {
    Json run = parse_json(fmt::format(R"({{"model": {}, "init":
      {{"from": "{}", "skip": {}}}}})",
                                      model, path_.string(), skip),
                          "t");
    take_model_from_folder(run, "c");
    return model_config_from_json(run["model"], "c.model");
  }

  std::string refused(const std::string& fields,
                      const std::string& skip = "[]") {
    try {
      model(fields, skip);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "accepted";
  }

  std::filesystem::path path_;
};

TEST_F(OfFolder, GivesWhatTheConfigDoesNotSay) {
  EXPECT_EQ(model("{}"), read(sizes()));
  ModelConfig hybrid = read(sizes());
  hybrid.pattern = "LN";
  hybrid.linear = LinearConfig("gla");
  hybrid.sliding_windows = {64};
  hybrid.max_position_embeddings = 9000;
  EXPECT_EQ(model(R"({"pattern": "LN", "linear": {"kind": "gla"},
    "sliding_windows": [64], "max_position_embeddings": 9000,
    "hidden": 48, "norm_eps": 1e-6})"),
            hybrid);
}

TEST_F(OfFolder, AnotherValueIsRefusedByName) {
  EXPECT_THAT(refused(R"({"layers": 4})"),
              AllOf(HasSubstr("[c.model.layers] got 4; want 5"),
                    HasSubstr((path_ / "config.json").string())));
  EXPECT_THAT(refused(R"({"rope_theta": 5e5})"), HasSubstr("rope_theta"));
  EXPECT_THAT(refused(R"({"rope_scaling": {"rope_type": "llama3", "factor": 2,
    "low_freq_factor": 1, "high_freq_factor": 4,
    "original_max_position_embeddings": 64}})"),
              AllOf(HasSubstr("rope_scaling"), HasSubstr("want none")));
  EXPECT_THAT(refused(R"({"layer": 4})"), HasSubstr("layer"));
  EXPECT_THAT(refused("3"), HasSubstr("want an object"));
}

// The shapes of the tensors then say what fits.
TEST_F(OfFolder, SizesMayDifferWithNamesToSkip) {
  const std::string vocabulary = R"({"vocab_size": 310})";
  EXPECT_THAT(refused(vocabulary), HasSubstr("vocab_size"));
  EXPECT_EQ(model(vocabulary, R"(["lm_head.weight"])").vocab_size, 310);
  EXPECT_THAT(refused(R"({"heads": 3})", R"(["lm_head.weight"])"),
              HasSubstr("model.heads"));
}

TEST_F(OfFolder, NoFolderChangesNothing) {
  Json run = {{"steps", 3}};
  take_model_from_folder(run, "c");
  EXPECT_EQ(run, Json({{"steps", 3}}));
}

}  // namespace
}  // namespace ringweave::config
