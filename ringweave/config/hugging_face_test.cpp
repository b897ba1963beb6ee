#include "ringweave/config/hugging_face.h"

#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave::config {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::ThrowsMessage;

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

ModelConfig imported(const Json& json) {
  return model_config_from_hugging_face(json, "F/config.json");
}

std::string refused_import(const Json& json) {
  try {
    imported(json);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "accepted";
}

TEST(HuggingFace, BothVersionsSayTheSame) {
  const ModelConfig four = imported(
      with(sizes(), fmt::format(R"({{"rope_theta": 500000.0, "torch_dtype":
        "bfloat16", "rope_scaling": {{{}}}}})",
                                kLlama3)));
  const ModelConfig five = imported(
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
  const ModelConfig model = imported(json);
  EXPECT_EQ(model.kv_heads, 6);
  EXPECT_EQ(model.head_dim, 8);
  EXPECT_EQ(model.rope_theta, 10000);
  EXPECT_FALSE(model.rope_scaling.has_value());
  EXPECT_FALSE(model.tie_embeddings);
  // As older versions wrote it.
  EXPECT_EQ(imported(with(json, R"({"rope_scaling": {"type": "default"}})")),
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
        refused_import(with(sizes(), fields)),
        AllOf(HasSubstr("F/config.json"), HasSubstr(name), HasSubstr(word)))
        << fields;
  }
  EXPECT_THAT(refused_import(Json::array()), HasSubstr("want an object"));
  EXPECT_EQ(refused_import(sizes()), "accepted");
}

TEST(HuggingFace, MistralHasAWindow) {
  const Json json = with(sizes(), R"({"model_type": "mistral",
    "sliding_window": 64, "layer_types": ["sliding_attention"]})");
  EXPECT_EQ(imported(json).sliding_windows, std::vector<std::int64_t>{64});
  EXPECT_TRUE(imported(with(sizes(), R"({"model_type": "mistral",
    "sliding_window": null})"))
                  .sliding_windows.empty());
  // Transformers would take 4096.
  EXPECT_THAT(refused_import(with(sizes(), R"({"model_type": "mistral"})")),
              HasSubstr("sliding_window] got none"));
}

TEST(HuggingFace, WhatIsWrittenIsRead) {
  ModelConfig model = imported(sizes());
  for (const std::vector<std::int64_t>& windows :
       {std::vector<std::int64_t>{}, {64}, {64, 64}}) {
    model.sliding_windows = windows;
    const Json json = to_hugging_face(model, "float32", 100);
    EXPECT_EQ(json["torch_dtype"], "float32");
    ModelConfig again = imported(json);
    if (!windows.empty()) again.sliding_windows = windows;
    EXPECT_EQ(again, model) << json.dump();
  }
  model.sliding_windows = {};
  model.rope_scaling = RopeScaling{.factor = 2};
  EXPECT_EQ(imported(to_hugging_face(model, "float32", 100)), model);
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
  ModelConfig model = imported(sizes());
  model.sliding_windows = {64, 0};
  EXPECT_THAT(refused(model), HasSubstr("64 and 0"));
  model.sliding_windows = {};
  model.pattern = "LLLN";
  EXPECT_THAT(refused(model), HasSubstr("pattern LLLN"));
}

TEST(HuggingFace, TypeToComputeIn) {
  const auto compute = [](const std::string& fields) {
    return compute_from_hugging_face(with(sizes(), fields), "F/config.json");
  };
  EXPECT_EQ(compute("{}"), ElementType::float32);
  EXPECT_EQ(compute(R"({"dtype": null})"), ElementType::float32);
  for (const char* field : {"dtype", "torch_dtype"}) {
    for (const auto& [type, want] :
         {std::pair("float64", ElementType::float64),
          std::pair("float32", ElementType::float32),
          std::pair("bfloat16", ElementType::bfloat16),
          std::pair("float16", ElementType::float32)}) {
      EXPECT_EQ(compute(fmt::format(R"({{"{}": "{}"}})", field, type)), want);
    }
    EXPECT_THAT([&] { compute(fmt::format(R"({{"{}": "int8"}})", field)); },
                ThrowsMessage<InvalidArgument>(
                    AllOf(HasSubstr(fmt::format("F/config.json.{}]", field)),
                          HasSubstr("int8"), HasSubstr("bfloat16"))));
  }
  EXPECT_EQ(compute(R"({"dtype": "bfloat16", "torch_dtype": "bfloat16"})"),
            ElementType::bfloat16);
  EXPECT_THAT(
      [&] { compute(R"({"dtype": "bfloat16", "torch_dtype": "float32"})"); },
      ThrowsMessage<InvalidArgument>(HasSubstr(
          "dtype] got bfloat16, and torch_dtype float32; want one type")));
}

TEST(HuggingFace, EndTokens) {
  const auto tokens = [](const std::string& text) {
    return end_tokens_from_hugging_face(parse_json(text, "t"), "F/g.json");
  };
  EXPECT_THAT(tokens("{}"), IsEmpty());
  EXPECT_THAT(tokens(R"({"eos_token_id": null})"), IsEmpty());
  EXPECT_THAT(tokens(R"({"eos_token_id": 0})"), ElementsAre(0));
  EXPECT_THAT(tokens(R"({"eos_token_id": [2, 128009]})"),
              ElementsAre(2, 128009));
  EXPECT_THAT(tokens(R"({"eos_token_id": []})"), IsEmpty());
  for (const char* value : {"-1", "[3, -1]", "1.5", "\"2\"", "[[2]]", "{}"}) {
    EXPECT_THAT(
        [&] { tokens(fmt::format(R"({{"eos_token_id": {}}})", value)); },
        ThrowsMessage<InvalidArgument>(HasSubstr("[F/g.json.eos_token_id")))
        << value;
  }
}

}  // namespace
}  // namespace ringweave::config
