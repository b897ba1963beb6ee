#include "ringweave/weights/model_folder.h"

#include <filesystem>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/comm/local_ranks.h"
#include "ringweave/weights/test_model.h"

namespace ringweave::weights {
namespace {

using checkpoint::DataType;
using checkpoint::TestFolder;
using config::TrainConfig;
using models::Model;
using models::Parameter;
using test::find;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string refusal(const std::string& path) {
  try {
    const ModelFolder folder(path);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "accepted";
}

/// Of a run on a text.
TrainConfig run_config() {
  TrainConfig config;
  config.model = test::tiny("LLLN");
  config.compute = ElementType::bfloat16;
  config.data.files = {"no/longer/there.txt"};
  return config;
}

/// That the folder's model has `weights`, rounded to `compute`.
void expect_loaded(const std::string& path,
                   const std::vector<Parameter>& weights, ElementType compute) {
  const Model model = ModelFolder(path).load(compute);
  ASSERT_EQ(model.parameters().size(), weights.size());
  EXPECT_EQ(model.compute(), compute);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const auto& [name, value] = model.parameters()[i];
    EXPECT_EQ(name, weights[i].name);
    EXPECT_TRUE(value.equal(weights[i].value.to(value.scalar_type()))) << name;
  }
}

/// A folder as Transformers writes it, whose config.json is to be changed.
class OfHuggingFace : public ::testing::Test {
 protected:
  OfHuggingFace()
      : folder_("model-folder"),
        weights_(test::drawn(test::tiny(), DataType::float32)) {
    test::write(folder_.path(), weights_, DataType::float32);
    set("{}");
  }

  /// The file with these fields over those of a Llama.
  void set(const std::string& fields,
           const config::ModelConfig& model = test::tiny()) const {
    Json json = config::to_hugging_face(model, "float32", 100);
    json.update(parse_json(fields, "t"));
    checkpoint::overwrite(folder_.file("config.json"), json.dump());
  }

  void set_generation(const std::string& text) const {
    checkpoint::overwrite(folder_.file("generation_config.json"), text);
  }

  ModelFolder read() const { return ModelFolder(folder_.path()); }

  TestFolder folder_;
  std::vector<Parameter> weights_;
};

TEST_F(OfHuggingFace, ModelAndWeights) {
  const ModelFolder folder = read();
  EXPECT_EQ(folder.path(), folder_.path());
  EXPECT_EQ(folder.model(),
            config::model_config_from_hugging_face(
                read_json_file(folder_.file("config.json")), "t"));
  EXPECT_EQ(folder.compute(), ElementType::float32);
  EXPECT_FALSE(folder.reads_bytes());
  for (const ElementType compute :
       {ElementType::float64, ElementType::float32, ElementType::bfloat16}) {
    expect_loaded(folder_.path(), weights_, compute);
  }
}

TEST_F(OfHuggingFace, TypeToComputeIn) {
  for (const auto& [type, compute] :
       {std::pair("bfloat16", ElementType::bfloat16),
        std::pair("float16", ElementType::float32),
        std::pair("float64", ElementType::float64)}) {
    set(fmt::format(R"({{"torch_dtype": "{}"}})", type));
    EXPECT_EQ(read().compute(), compute) << type;
  }
  set(R"({"torch_dtype": null})");
  EXPECT_EQ(read().compute(), ElementType::float32);
  set(R"({"torch_dtype": "int8"})");
  EXPECT_THAT(refusal(folder_.path()),
              HasSubstr(folder_.file("config.json.torch_dtype]")));
}

TEST_F(OfHuggingFace, EndTokens) {
  EXPECT_THAT(read().end_tokens(), IsEmpty());
  set(R"({"eos_token_id": 2})");
  EXPECT_THAT(read().end_tokens(), ElementsAre(2));
  set_generation("{}");
  EXPECT_THAT(read().end_tokens(), ElementsAre(2));
  set_generation(R"({"eos_token_id": [7, 300]})");
  EXPECT_THAT(read().end_tokens(), ElementsAre(7, 300));
  set_generation(R"({"eos_token_id": null})");
  EXPECT_THAT(read().end_tokens(), IsEmpty());
  for (const char* text : {R"({"eos_token_id": "x"})", "[]", "{"}) {
    set_generation(text);
    EXPECT_THAT(refusal(folder_.path()),
                HasSubstr(folder_.file("generation_config.json")))
        << text;
  }
}

TEST_F(OfHuggingFace, TiedEmbeddingsAndOldFrequencies) {
  config::ModelConfig tied = test::tiny();
  tied.tie_embeddings = true;
  set("{}", tied);
  EXPECT_THAT(refusal(folder_.path()), HasSubstr("lm_head.weight beside tied"));
  const at::Tensor embedding =
      find(weights_, "model.embed_tokens.weight").value;
  find(weights_, "lm_head.weight").value = embedding;
  std::vector<Parameter> more = weights_;
  more.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq",
                  at::ones({2}, at::kDouble)});
  test::write(folder_.path(), more, DataType::float32);
  std::vector<Parameter> want = test::drawn(tied, DataType::float32);
  for (Parameter& weight : want) {
    weight.value = find(weights_, weight.name).value;
  }
  expect_loaded(folder_.path(), want, ElementType::float32);
}

TEST_F(OfHuggingFace, SeveralFiles) {
  std::filesystem::remove(folder_.file(checkpoint::kWeightsFile));
  Json map = Json::object();
  for (const std::size_t part : {0, 1}) {
    std::vector<Parameter> some;
    const std::string name = fmt::format("part-{}.safetensors", part);
    for (std::size_t i = part; i < weights_.size(); i += 2) {
      some.push_back(weights_[i]);
      map[weights_[i].name] = name;
    }
    test::write(folder_.path(), some, DataType::float32);
    std::filesystem::rename(folder_.file(checkpoint::kWeightsFile),
                            folder_.file(name));
  }
  const Json index = {{"weight_map", map}};
  checkpoint::overwrite(folder_.file(checkpoint::kWeightsIndexFile),
                        index.dump());
  expect_loaded(folder_.path(), weights_, ElementType::float32);
  std::filesystem::remove(folder_.file("part-1.safetensors"));
  EXPECT_THAT(refusal(folder_.path()), HasSubstr("part-1.safetensors"));
}

TEST_F(OfHuggingFace, DamagedAndForeignOnesAreRefused) {
  std::vector<Parameter> some = weights_;
  some.pop_back();
  test::write(folder_.path(), some);
  EXPECT_THAT(refusal(folder_.path()),
              HasSubstr(fmt::format("[{}] got no tensor {}; want it as float32",
                                    folder_.path(), weights_.back().name)));
  some = weights_;
  some[3].value = at::ones({2, 2}, at::kDouble);
  test::write(folder_.path(), some);
  EXPECT_THAT(refusal(folder_.path()),
              AllOf(HasSubstr(some[3].name), HasSubstr("float64 [2, 2]; want"),
                    ::testing::Not(HasSubstr("--init-skip"))));
  some = weights_;
  some.push_back({"score.weight", at::ones({1}, at::kDouble)});
  test::write(folder_.path(), some);
  EXPECT_THAT(refusal(folder_.path()), HasSubstr("a tensor score.weight"));
  checkpoint::overwrite(folder_.file(checkpoint::kWeightsFile), "text");
  EXPECT_THAT(refusal(folder_.path()),
              HasSubstr(folder_.file(checkpoint::kWeightsFile)));
  std::filesystem::remove(folder_.file(checkpoint::kWeightsFile));
  EXPECT_THAT(refusal(folder_.path()), HasSubstr("neither model.safetensors"));
  set(R"({"model_type": "gpt2"})");
  EXPECT_THAT(refusal(folder_.path()), HasSubstr("config.json.model_type]"));
  EXPECT_THAT(refusal(folder_.file("absent")),
              AllOf(HasSubstr("absent]"), HasSubstr("want the folder of")));
}

TEST(ModelFolder, OfARunAndOfItsCheckpoints) {
  const TestFolder run("model-folder");
  EXPECT_THAT(refusal(run.path()), HasSubstr("neither a checkpoint nor"));
  run.write("config.json", to_json(run_config()).dump());
  EXPECT_THAT(refusal(run.path()), HasSubstr("a run without a checkpoint"));
  const std::vector<Parameter> older =
      test::drawn(run_config().model, DataType::float32, 4);
  const std::vector<Parameter> newest =
      test::drawn(run_config().model, DataType::float32, 5);
  const std::string first = test::write_checkpoint(run.path(), 0, run_config(),
                                                   older, DataType::float32);
  const std::string last = test::write_checkpoint(run.path(), 9, run_config(),
                                                  newest, DataType::float32);
  for (const std::string& path : {run.path(), last}) {
    const ModelFolder folder(path);
    EXPECT_EQ(folder.path(), last);
    EXPECT_EQ(folder.model(), run_config().model);
    EXPECT_EQ(folder.compute(), ElementType::bfloat16);
    expect_loaded(path, newest, ElementType::bfloat16);
  }
  expect_loaded(first, older, ElementType::float64);
}

TEST(ModelFolder, BytesAndEndTokensOfARun) {
  const TestFolder run("model-folder");
  TrainConfig config = run_config();
  const auto read = [&] {
    return ModelFolder(test::write_checkpoint(
        run.path(), config.seed++, config,
        test::drawn(config.model, DataType::float32), DataType::float32));
  };
  EXPECT_TRUE(read().reads_bytes());
  EXPECT_THAT(read().end_tokens(), IsEmpty());
  config.model.vocab_size = 257;
  EXPECT_THAT(read().end_tokens(), ElementsAre(256));
  config.data.files = {"no/longer/there.safetensors"};
  EXPECT_FALSE(read().reads_bytes());
  EXPECT_THAT(read().end_tokens(), IsEmpty());
  config.data.format = "uint16";
  config.data.end_token = 3;
  EXPECT_FALSE(read().reads_bytes());
  EXPECT_THAT(read().end_tokens(), ElementsAre(3));
}

TEST(ModelFolder, DamagedCheckpointsAreRefused) {
  const TestFolder run("model-folder");
  const std::vector<Parameter> weights =
      test::drawn(run_config().model, DataType::float32);
  const std::string folder = test::write_checkpoint(run.path(), 0, run_config(),
                                                    weights, DataType::float32);
  const std::string file = folder + "/" + checkpoint::kWeightsFile;
  const std::string whole = checkpoint::content(file);
  std::string bytes = whole;
  bytes.back() ^= 1;
  checkpoint::overwrite(file, bytes);
  EXPECT_THAT(refusal(run.path()),
              AllOf(HasSubstr(file), HasSubstr("is damaged")));
  checkpoint::overwrite(file, whole);
  EXPECT_EQ(refusal(run.path()), "accepted");
  // Another model's weights, with a manifest of their own.
  TrainConfig other = run_config();
  other.model.layers = 5;
  test::write_checkpoint(run.path(), 1, other, weights, DataType::float32);
  EXPECT_THAT(refusal(run.path()), HasSubstr("no tensor model.layers.4."));
  other.model.layers = 3;
  test::write_checkpoint(run.path(), 2, other, weights, DataType::float32);
  EXPECT_THAT(refusal(run.path()), HasSubstr("a tensor model.layers.3."));
  std::filesystem::remove(folder + "/manifest.json");
  EXPECT_THAT(refusal(folder), HasSubstr("manifest.json"));
}

TEST(ModelFolder, RanksWithOtherWeightsAllSaySo) {
  const TestFolder run("model-folder");
  std::vector<ModelFolder> folders;
  for (const std::int64_t step : {0, 1}) {
    folders.emplace_back(test::write_checkpoint(
        run.path(), step, run_config(),
        test::drawn(run_config().model, DataType::float32, step),
        DataType::float32));
  }
  std::vector<std::string> texts(3);
  comm::rank_outcomes(
      3, [&](Rank rank, std::shared_ptr<comm::Transport> transport) {
        comm::Communicator communicator(std::move(transport));
        const ModelFolder& folder = folders[rank == 2 ? 1 : 0];
        const Model model = folder.load(ElementType::float32);
        try {
          check_equal(hash_of(model), folder.path(), communicator);
        } catch (const InvalidArgument& error) {
          texts[static_cast<std::size_t>(rank)] = error.what();
          throw;
        }
      });
  for (const std::string& text : texts) {
    EXPECT_THAT(text, HasSubstr("other weights on rank 2 than on rank 1"));
  }
}

}  // namespace
}  // namespace ringweave::weights
