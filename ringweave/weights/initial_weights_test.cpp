#include "ringweave/weights/initial_weights.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/comm/local_ranks.h"
#include "ringweave/models/reference.h"
#include "ringweave/weights/layer_names.h"
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
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

/// Of a run that begins with the weights in `folder`.
TrainConfig config_of(const TestFolder& folder,
                      const std::string& pattern = "N") {
  TrainConfig config;
  config.model = test::tiny(pattern);
  config.compute = ElementType::float64;
  config.init.from = folder.path();
  test::write_config(folder.path(), test::tiny());
  return config;
}

/// Weights of a Llama of the same sizes.
std::vector<Parameter> llama(config::ModelConfig model, DataType type,
                             std::int64_t seed = 3) {
  model.pattern = "N";
  return test::drawn(model, type, seed);
}

void write(const TestFolder& folder, const std::vector<Parameter>& weights,
           DataType type = DataType::float64) {
  test::write(folder.path(), weights, type);
}

/// The model of one rank that has begun with the folder's weights.
void with_model(
    const TrainConfig& config,
    const std::function<void(const Model&, comm::Communicator&)>& use) {
  const InitialWeights initial(config);
  comm::run_ranks(1, [&](Rank, std::shared_ptr<comm::Transport> transport) {
    comm::Communicator communicator(std::move(transport));
    const Model model(config.model, config.compute, config.seed);
    initial.copy_to(model, communicator);
    use(model, communicator);
  });
}

std::string refusal(const TrainConfig& config) {
  try {
    const InitialWeights initial(config);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "accepted";
}

// The reference computes with the tensors themselves, by their names.
TEST(InitialWeights, LossIsThatOfThePlainModelOnTheFolder) {
  for (const bool tied : {false, true}) {
    const TestFolder folder("init");
    TrainConfig config = config_of(folder);
    config.model.tie_embeddings = tied;
    config.model.norm_eps = 1e-3;
    const std::vector<Parameter> weights =
        llama(config.model, DataType::bfloat16);
    write(folder, weights, DataType::bfloat16);
    auto generator = at::detail::createCPUGenerator(9);
    const at::Tensor sequences =
        at::randint(0, config.model.vocab_size, {2, 12}, generator, at::kLong);
    const double want =
        models::test::reference_loss(config.model, weights, sequences)
            .item<double>();
    with_model(config, [&](const Model& model, comm::Communicator& own) {
      const models::Context context = models::make_context(
          config.model, config.compute,
          {.layout = schedule::Layout::contiguous(11, 1),
           .softmax = schedule::strategy_from_name("ring"),
           .linear = schedule::state_exchange_from_name("chain")},
          own);
      const models::Shard shard = models::shard_sequences(sequences, context);
      EXPECT_NEAR(models::loss(model.forward(shard.tokens, context),
                               shard.labels, 2 * 11)
                      .item<double>(),
                  want, 1e-10);
    });
  }
}

// Queries, keys and values of another size are drawn, without a word from the
// user.
TEST(InitialWeights, FamiliesWithSizesOfTheirOwnTakeTheRest) {
  for (const auto& [kind, own] :
       {std::pair("rebased", "qk"), std::pair("mamba2", "qkv")}) {
    const TestFolder folder("init");
    TrainConfig config = config_of(folder);
    write(folder, llama(config.model, DataType::float32), DataType::float32);
    config.model.pattern = "LN";
    config.model.linear = config::LinearConfig(kind);
    const InitialWeights initial(config);
    for (std::int64_t i = 0; i < config.model.layers; ++i) {
      for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
        const std::string tensor =
            fmt::format("model.layers.{}.self_attn.{}.weight", i, name);
        const bool drawn = i % 2 == 0 && std::string_view(own).find(name[0]) !=
                                             std::string_view::npos;
        EXPECT_EQ(std::ranges::count(initial.drawn(), tensor), drawn ? 1 : 0);
        EXPECT_EQ(std::ranges::count(initial.taken(), tensor), drawn ? 0 : 1);
      }
    }
  }
}

TEST(InitialWeights, AreThoseOfTheFileInEachType) {
  for (const DataType type : {DataType::float64, DataType::float32,
                              DataType::bfloat16, DataType::float16}) {
    const TestFolder folder("init");
    TrainConfig config = config_of(folder);
    const std::vector<Parameter> weights = llama(config.model, type);
    write(folder, weights, type);
    for (const ElementType compute :
         {ElementType::float64, ElementType::float32, ElementType::bfloat16}) {
      config.compute = compute;
      with_model(config, [&](const Model& model, comm::Communicator&) {
        for (std::size_t i = 0; i < weights.size(); ++i) {
          const auto& [name, value] = model.parameters()[i];
          EXPECT_EQ(name, weights[i].name);
          EXPECT_TRUE(value.equal(weights[i].value.to(value.scalar_type())))
              << name;
          EXPECT_TRUE(value.is_leaf() && value.requires_grad());
        }
      });
    }
  }
}

TEST(InitialWeights, WhatOnlyTheNewLayersHaveIsDrawnAsWithoutAFolder) {
  for (const std::string& kind : config::linear_family_names()) {
    const TestFolder folder("init");
    TrainConfig config = config_of(folder, "LLLN");
    config.model.linear = config::LinearConfig(kind);
    std::vector<Parameter> weights = llama(config.model, DataType::float64);
    write(folder, weights);
    const InitialWeights initial(config);
    const Model drawn(config.model, config.compute, config.seed);
    const auto own_size =
        std::ranges::count_if(initial.drawn(), [&](const std::string& name) {
          return is_own_size(config.model, name);
        });
    EXPECT_EQ(std::ssize(initial.taken()) + own_size, std::ssize(weights));
    EXPECT_EQ(initial.taken().size() + initial.drawn().size(),
              drawn.parameters().size());
    with_model(config, [&](const Model& model, comm::Communicator&) {
      for (std::size_t i = 0; i < drawn.parameters().size(); ++i) {
        const auto& [name, value] = model.parameters()[i];
        const bool is_drawn =
            std::ranges::find(initial.drawn(), name) != initial.drawn().end();
        EXPECT_TRUE(value.equal(is_drawn ? drawn.parameters()[i].value
                                         : find(weights, name).value))
            << name;
      }
    });
    if (kind == "lightning") {
      EXPECT_THAT(by_layers(initial.drawn()),
                  ElementsAre("model.layers.0-2.self_attn.o_norm.weight"));
    }
    if (kind == "gla") {
      EXPECT_THAT(initial.drawn(),
                  IsSupersetOf({"model.layers.2.self_attn.gk_proj.1.bias",
                                "model.layers.0.self_attn.g_proj.weight"}));
    }
  }
}

TEST(InitialWeights, SkippedTensorsAreDrawn) {
  const TestFolder folder("init");
  TrainConfig config = config_of(folder);
  config::ModelConfig other = config.model;
  other.vocab_size += 7;
  write(folder, llama(other, DataType::float64));
  const std::string embedding = "model.embed_tokens.weight";
  EXPECT_THAT(refusal(config),
              AllOf(HasSubstr(embedding), HasSubstr("[263, 16]"),
                    HasSubstr("want float64 [256, 16]"),
                    HasSubstr("--init-skip " + embedding)));
  config.init.skip = {embedding};
  EXPECT_THAT(refusal(config), HasSubstr("tensor lm_head.weight"));
  config.init.skip.push_back("lm_head.weight");
  const InitialWeights initial(config);
  EXPECT_THAT(initial.drawn(), ElementsAre(embedding, "lm_head.weight"));
  config.init.skip = {"lm_head.wieght"};
  EXPECT_THAT(refusal(config),
              AllOf(HasSubstr("init.skip"), HasSubstr("lm_head.wieght"),
                    HasSubstr("lm_head.weight\"")));
}

TEST(InitialWeights, OtherTensorsThanTheModelsAreRefused) {
  const TestFolder folder("init");
  const TrainConfig config = config_of(folder);
  const std::vector<Parameter> weights = llama(config.model, DataType::float64);

  std::vector<Parameter> some = weights;
  std::erase_if(some, [](const Parameter& weight) {
    return weight.name == "model.layers.1.self_attn.k_proj.weight";
  });
  write(folder, some);
  EXPECT_THAT(refusal(config),
              HasSubstr("no tensor model.layers.1.self_attn.k_proj.weight"));

  std::vector<Parameter> more = weights;
  more.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq",
                  at::ones({2}, at::kDouble)});
  write(folder, more);
  EXPECT_EQ(refusal(config), "accepted");
  more.push_back(
      {"model.layers.0.self_attn.q_proj.bias", at::ones({16}, at::kDouble)});
  write(folder, more);
  EXPECT_THAT(refusal(config),
              HasSubstr("a tensor model.layers.0.self_attn.q_proj.bias"));

  TrainConfig fewer = config;
  fewer.model.layers = 3;
  write(folder, weights);
  EXPECT_THAT(refusal(fewer), HasSubstr("a tensor model.layers.3."));

  std::filesystem::remove(folder.file(checkpoint::kWeightsFile));
  const std::vector<std::int64_t> numbers(16, 1);
  checkpoint::write_safetensors(folder.file(checkpoint::kWeightsFile),
                                {{"model.embed_tokens.weight",
                                  DataType::int64,
                                  {4, 4},
                                  std::as_bytes(std::span(numbers))}});
  EXPECT_THAT(refusal(config),
              AllOf(HasSubstr("int64"), HasSubstr("floating point")));
}

TEST(InitialWeights, AHeadBesideTiedEmbeddingsMustBeThem) {
  const TestFolder folder("init");
  TrainConfig config = config_of(folder);
  std::vector<Parameter> weights = llama(config.model, DataType::float64);
  config.model.tie_embeddings = true;
  write(folder, weights);
  EXPECT_THAT(refusal(config), HasSubstr("a lm_head.weight beside tied"));
  find(weights, "lm_head.weight").value =
      find(weights, "model.embed_tokens.weight").value;
  write(folder, weights);
  EXPECT_EQ(refusal(config), "accepted");
}

// Layer by layer: of both, of the run's alone, of the new model's alone.
TEST(InitialWeights, OfARunWhatLinearLayersBothHaveIsTaken) {
  const TestFolder run("init-run");
  TrainConfig before;
  before.model = test::tiny("LLNN");
  std::vector<Parameter> weights = test::drawn(before.model, DataType::float64);
  const std::string checkpoint =
      test::write_checkpoint(run.path(), 30, before, weights);
  for (const std::string& from : {run.path(), checkpoint}) {
    TrainConfig config;
    config.model = test::tiny("LNLN");
    config.compute = ElementType::float64;
    config.seed = 5;
    config.init.from = from;
    const InitialWeights initial(config);
    EXPECT_EQ(initial.folder(), checkpoint);
    EXPECT_THAT(by_layers(initial.drawn()),
                AllOf(Contains("model.layers.2.self_attn.gk_proj.0.weight"),
                      Each(HasSubstr("model.layers.2.self_attn.g"))));
    EXPECT_THAT(by_layers(initial.left_out()),
                AllOf(Contains("model.layers.1.self_attn.gk_proj.0.weight"),
                      Each(HasSubstr("model.layers.1.self_attn.g"))));
    EXPECT_EQ(initial.left_out().size(), initial.drawn().size());
    EXPECT_EQ(initial.taken().size() + initial.left_out().size(),
              weights.size());
    const Model drawn(config.model, config.compute, config.seed);
    with_model(config, [&](const Model& model, comm::Communicator&) {
      for (std::size_t i = 0; i < drawn.parameters().size(); ++i) {
        const auto& [name, value] = model.parameters()[i];
        EXPECT_TRUE(value.equal(name.starts_with("model.layers.2.self_attn.g")
                                    ? drawn.parameters()[i].value
                                    : find(weights, name).value))
            << name;
      }
    });
  }
}

TEST(InitialWeights, OfARunLinearLayersOfAnotherFamilyAreLeftOut) {
  const TestFolder run("init-run");
  TrainConfig config;
  config.model = test::tiny("LLLN");
  config.init.from = test::write_checkpoint(
      run.path(), 0, config, test::drawn(config.model, DataType::float32),
      DataType::float32);
  config.model.linear = config::LinearConfig("lightning");
  const InitialWeights initial(config);
  EXPECT_THAT(by_layers(initial.drawn()),
              ElementsAre("model.layers.0-2.self_attn.o_norm.weight"));
  EXPECT_THAT(by_layers(initial.left_out()),
              Contains("model.layers.0-2.self_attn.g_norm.weight"));
  config.model.pattern = "N";
  EXPECT_EQ(InitialWeights(config).left_out(), initial.left_out());
  EXPECT_TRUE(InitialWeights(config).drawn().empty());

  // What is of no linear layer is as needless as in other folders.
  config.model.layers = 2;
  EXPECT_THAT(refusal(config), HasSubstr("a tensor model.layers.2."));
}

TEST(InitialWeights, ACheckpointIsAsItsManifestSays) {
  const TestFolder run("init-run");
  TrainConfig config;
  config.model = test::tiny();
  config.init.from = run.path();
  const std::vector<Parameter> weights =
      test::drawn(config.model, DataType::float64);
  const std::string checkpoint =
      test::write_checkpoint(run.path(), 0, config, weights);
  EXPECT_EQ(refusal(config), "accepted");
  const std::string file = checkpoint + "/" + checkpoint::kWeightsFile;
  std::string bytes = checkpoint::content(file);
  bytes.back() ^= 1;
  checkpoint::overwrite(file, bytes);
  EXPECT_THAT(refusal(config), AllOf(HasSubstr(file), HasSubstr("is damaged")));
}

TEST(InitialWeights, RanksWithOtherWeightsAllSaySo) {
  const TestFolder one("init"), other("init-other");
  // Before the ranks begin: this writes into the folders.
  const TrainConfig config = config_of(one), with_other = config_of(other);
  write(one, llama(config.model, DataType::float64, 3));
  write(other, llama(config.model, DataType::float64, 4));
  std::vector<std::string> texts(3);
  comm::rank_outcomes(
      3, [&](Rank rank, std::shared_ptr<comm::Transport> transport) {
        try {
          comm::Communicator communicator(std::move(transport));
          const InitialWeights initial(rank == 2 ? with_other : config);
          const Model model(config.model, config.compute, 0);
          initial.copy_to(model, communicator);
        } catch (const std::exception& error) {
          texts[rank] = error.what();
          throw;
        }
      });
  for (const std::string& text : texts) {
    EXPECT_THAT(text, HasSubstr("other weights on rank 2 than on rank 1"));
  }
}

}  // namespace
}  // namespace ringweave::weights
