#include "ringweave/config/model_source.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/checkpoint/checkpoint_folder.h"
#include "ringweave/checkpoint/state.h"
#include "ringweave/checkpoint/test_folder.h"
#include "ringweave/config/hugging_face.h"

namespace ringweave::config {
namespace {

using checkpoint::CheckpointFolder;
using checkpoint::TestFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

/// Of a Llama, as Transformers writes it.
Json llama() {
  return parse_json(R"({"model_type": "llama", "vocab_size": 300,
    "hidden_size": 48, "intermediate_size": 7, "num_hidden_layers": 5,
    "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 10,
    "rms_norm_eps": 1e-06, "max_position_embeddings": 4096,
    "tie_word_embeddings": true})",
                    "t");
}

/// Of a run whose layers are of another family than the default one.
TrainConfig run_config() {
  TrainConfig config;
  config.model = model_config_from_json(parse_json(R"({
    "vocab_size": 300, "hidden": 48, "intermediate": 7, "layers": 8,
    "heads": 6, "kv_heads": 3, "head_dim": 10, "pattern": "LLNN",
    "sliding_windows": [64, 0], "max_position_embeddings": 500,
    "linear": {"kind": "gla", "gate_rank": 3, "gate_divisor": 8}})",
                                                   "t"),
                                        "t");
  config.compute = ElementType::bfloat16;
  config.seed = 5;
  return config;
}

/// A checkpoint of the run in `run`, but for the weights. Returns its folder.
std::string write_state(const std::string& run, std::int64_t step,
                        const Json& config = to_json(run_config())) {
  const CheckpointFolder folder(run);
  folder.begin(step);
  checkpoint::overwrite(
      folder.partial_path_of(step) + "/" + checkpoint::kStateFile,
      to_json(checkpoint::State{.step = step,
                                .data = "hash",
                                .config = config,
                                .versions = Json::object()})
          .dump());
  folder.complete(step);
  return folder.path_of(step);
}

std::string refused_source(const std::string& path) {
  try {
    find_model(path);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "accepted";
}

TEST(ModelSource, OfARunItIsTheNewestCheckpoint) {
  const TestFolder run("model-source");
  const std::string first = write_state(run.path(), 3);
  const std::string last = write_state(run.path(), 20);
  const ModelSource source = find_model(run.path());
  EXPECT_EQ(source.folder, last);
  EXPECT_EQ(source.file, last + "/state.json");
  EXPECT_EQ(source.model, run_config().model);
  EXPECT_EQ(source.run, run_config());
  run.write("config.json", to_json(run_config()).dump());
  EXPECT_EQ(find_model(run.path()).folder, last);
  EXPECT_EQ(find_model(first).folder, first);
  const std::string copied = run.file("copied");
  std::filesystem::copy(first, copied);
  EXPECT_EQ(find_model(copied).folder, copied);
}

TEST(ModelSource, OfARunOfAnOlderProgram) {
  TrainConfig config = run_config();
  config.parallel.device_table = "h100";
  Json older = to_json(config);
  older["parallel"].erase("device_table");
  older["parallel"]["device"] = "h100";
  const TestFolder run("model-source");
  write_state(run.path(), 3, older);
  EXPECT_EQ(find_model(run.path()).run, config);
  // A word of today that is set beside the older one holds.
  older["parallel"]["device_table"] = "cpu";
  config.parallel.device_table = "cpu";
  EXPECT_EQ(config_from_json(with_new_names(older), "older"), config);
}

TEST(ModelSource, OfHuggingFaceItIsTheFolder) {
  const TestFolder folder("model-source");
  folder.write("config.json", llama().dump());
  const ModelSource source = find_model(folder.path());
  EXPECT_EQ(source.folder, folder.path());
  EXPECT_EQ(source.file, folder.file("config.json"));
  EXPECT_EQ(source.model, model_config_from_hugging_face(llama(), source.file));
  EXPECT_FALSE(source.run.has_value());
}

TEST(ModelSource, OtherFoldersAreRefused) {
  const TestFolder folder("model-source");
  const std::string none = "neither a checkpoint nor a config.json; want";
  EXPECT_THAT(refused_source(folder.path()),
              AllOf(HasSubstr("[" + folder.path() + "]"), HasSubstr(none)));
  EXPECT_THAT(refused_source(folder.file("absent")), HasSubstr(none));
  EXPECT_THAT(refused_source(""), HasSubstr(none));
  EXPECT_THAT(refused_source(folder.write("file", "x")), HasSubstr(none));

  folder.write("config.json", to_json(run_config()).dump());
  EXPECT_THAT(refused_source(folder.path()),
              HasSubstr("got a run without a checkpoint; want"));
  for (const auto& [text, word] :
       {std::pair("[]", "want an object"), std::pair("{", "config.json"),
        std::pair(R"({"model_type": "gpt2"})", "model_type"),
        std::pair(R"({"format": 3})", "model_type")}) {
    checkpoint::overwrite(folder.file("config.json"), text);
    EXPECT_THAT(refused_source(folder.path()), HasSubstr(word)) << text;
  }

  const TestFolder run("model-source-run");
  const std::string step = CheckpointFolder(run.path()).path_of(4);
  EXPECT_THAT(refused_source(step), HasSubstr(step + "/state.json"));
  write_state(run.path(), 4, {{"format", "ringweave.config"}, {"version", 2}});
  EXPECT_THAT(refused_source(run.path()),
              HasSubstr(step + "/state.json.config"));
  checkpoint::overwrite(step + "/state.json", "{}");
  EXPECT_THAT(refused_source(step), HasSubstr(step + "/state.json"));
}

/// What a config takes of a folder.
class TakeModel : public ::testing::Test {
 protected:
  TakeModel() : folder_("take-model") {}

  /// The config with this `model`, complete.
  Json taken(const std::string& model, const std::string& skip = "[]") const {
    Json run = parse_json(fmt::format(R"({{"model": {}, "init":
      {{"from": "{}", "skip": {}}}}})",
                                      model, folder_.path(), skip),
                          "t");
    take_model_from_folder(run, "c");
    return run;
  }

  ModelConfig model(const std::string& model,
                    const std::string& skip = "[]") const {
    return model_config_from_json(taken(model, skip)["model"], "c.model");
  }

  std::string refused(const std::string& fields,
                      const std::string& skip = "[]") const {
    try {
      model(fields, skip);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "accepted";
  }

  TestFolder folder_;
};

class OfHuggingFace : public TakeModel {
 protected:
  OfHuggingFace() { folder_.write("config.json", llama().dump()); }

  static ModelConfig read() {
    return model_config_from_hugging_face(llama(), "t");
  }
};

TEST_F(OfHuggingFace, GivesWhatTheConfigDoesNotSay) {
  EXPECT_EQ(model("{}"), read());
  EXPECT_EQ(taken("{}")["init"]["from"], folder_.path());
  ModelConfig hybrid = read();
  hybrid.pattern = "LN";
  hybrid.linear = LinearConfig("gla");
  hybrid.sliding_windows = {64};
  hybrid.max_position_embeddings = 9000;
  EXPECT_EQ(model(R"({"pattern": "LN", "linear": {"kind": "gla"},
    "sliding_windows": [64], "max_position_embeddings": 9000,
    "hidden": 48, "norm_eps": 1e-6})"),
            hybrid);
}

TEST_F(OfHuggingFace, AnotherValueIsRefusedByName) {
  EXPECT_THAT(refused(R"({"layers": 4})"),
              AllOf(HasSubstr("[c.model.layers] got 4; want 5"),
                    HasSubstr(folder_.file("config.json"))));
  EXPECT_THAT(refused(R"({"rope_theta": 5e5})"), HasSubstr("rope_theta"));
  EXPECT_THAT(refused(R"({"rope_scaling": {"rope_type": "llama3", "factor": 2,
    "low_freq_factor": 1, "high_freq_factor": 4,
    "original_max_position_embeddings": 64}})"),
              AllOf(HasSubstr("rope_scaling"), HasSubstr("want none")));
  EXPECT_THAT(refused(R"({"layer": 4})"), HasSubstr("layer"));
  EXPECT_THAT(refused("3"), HasSubstr("want an object"));
}

// The shapes of the tensors then say what fits.
TEST_F(OfHuggingFace, SizesMayDifferWithNamesToSkip) {
  const std::string vocabulary = R"({"vocab_size": 310})";
  EXPECT_THAT(refused(vocabulary), HasSubstr("vocab_size"));
  EXPECT_EQ(model(vocabulary, R"(["lm_head.weight"])").vocab_size, 310);
  EXPECT_THAT(refused(R"({"heads": 3})", R"(["lm_head.weight"])"),
              HasSubstr("model.heads"));
}

class OfRun : public TakeModel {
 protected:
  OfRun() : checkpoint_(write_state(folder_.path(), 7)) {}

  std::string checkpoint_;
};

TEST_F(OfRun, GivesWhatTheConfigDoesNotSay) {
  EXPECT_EQ(model("{}"), run_config().model);
  EXPECT_EQ(model(R"({"layers": 8})"), run_config().model);
  EXPECT_EQ(taken("{}")["init"]["from"], checkpoint_);
  ModelConfig softmax = run_config().model;
  softmax.pattern = "N";
  softmax.max_position_embeddings = 0;
  EXPECT_EQ(model(R"({"pattern": "N", "max_position_embeddings": 0})"),
            softmax);
}

TEST_F(OfRun, ALinearFamilyHasTheRunsFieldsIfItIsTheRuns) {
  const auto linear = [&](const std::string& fields) {
    return model(fmt::format(R"({{"linear": {}}})", fields)).linear;
  };
  LinearConfig want = run_config().model.linear;
  EXPECT_EQ(linear("{}"), want);
  EXPECT_EQ(linear(R"({"kind": "gla"})"), want);
  want.set("gate_divisor", 4);
  EXPECT_EQ(linear(R"({"gate_divisor": 4})"), want);
  EXPECT_EQ(linear(R"({"kind": "lightning"})"), LinearConfig("lightning"));
  EXPECT_THAT(refused(R"({"linear": 3})"), HasSubstr("c.model.linear"));
  EXPECT_THAT(refused(R"({"linear": {"kind": 3}})"),
              HasSubstr("c.model.linear.kind"));
  EXPECT_THAT(refused(R"({"linear": {"feature_map": "elu1"}})"),
              HasSubstr("feature_map"));
}

TEST_F(OfRun, AnotherValueIsRefusedByName) {
  EXPECT_THAT(refused(R"({"layers": 4})"),
              AllOf(HasSubstr("[c.model.layers] got 4; want 8"),
                    HasSubstr(checkpoint_ + "/state.json")));
  // The run's windows, of which its pattern has one for every second layer.
  EXPECT_THAT(refused(R"({"pattern": "L"})"), HasSubstr("sliding_windows"));
}

TEST(NoFolder, ChangesNothing) {
  Json run = {{"steps", 3}};
  take_model_from_folder(run, "c");
  EXPECT_EQ(run, Json({{"steps", 3}}));
}

}  // namespace
}  // namespace ringweave::config
