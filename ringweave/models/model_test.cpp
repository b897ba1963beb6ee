#include "ringweave/models/model.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/comm/local_ranks.h"
#include "ringweave/models/split_check.h"

namespace ringweave::models {
namespace {

using ::testing::HasSubstr;
using namespace test;

/// |a - b| / |b| over all tensors together.
double relative_error(const std::vector<at::Tensor>& a,
                      const std::vector<at::Tensor>& b) {
  double error = 0;
  double size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    error += (a[i] - b[i]).pow(2).sum().item<double>();
    size += b[i].pow(2).sum().item<double>();
  }
  return std::sqrt(error / size);
}

class ModelSplit : public ::testing::TestWithParam<std::string> {};

TEST_P(ModelSplit, LossAndGradientsAreThoseOfThePlainModel) {
  expect_exact(tiny(GetParam()), 13, {1, 2, 3, 4, 5}, splits());
}

// Fewer tokens than ranks: some ranks, and for one token all but one, have
// nothing to compute, yet the others wait for their messages.
TEST_P(ModelSplit, EmptyShardsTakePart) {
  for (const std::int64_t tokens : {2, 4}) {
    expect_exact(tiny(GetParam()), tokens, {3, 5}, splits());
  }
}

// Rows of one batch with other documents each: of one token too, and one whose
// last label is of the next document.
TEST_P(ModelSplit, DocumentsAreModelsOfTheirOwn) {
  const std::vector<Borders> different = {{1, 5, 6}, {9, 13}};
  expect_exact(tiny(GetParam()), 13, {1, 2, 3, 5}, splits(), different);
  const std::vector<Borders> none_in_one = {{}, {4}};
  expect_exact(tiny(GetParam()), 13, {4}, {splits()[0]}, none_in_one);
  const std::vector<Borders> equal = {{2}, {2}};
  expect_exact(tiny(GetParam()), 4, {5}, {splits()[0], splits()[1]}, equal);
}

// Shards shorter than what a convolution sees, too.
TEST_P(ModelSplit, ShortConvolutionsAreExact) {
  ModelConfig config = tiny(GetParam(), "LN");
  config.layers = 2;
  config.linear.set("convolution", 4);
  const std::vector<SplitNames> two = {splits()[0], splits()[1]};
  expect_exact(config, 13, {1, 2, 5}, two);
  expect_exact(config, 13, {3}, two, {{1, 5, 6}, {9, 13}});
  expect_exact(config, 4, {5}, two);
}

INSTANTIATE_TEST_SUITE_P(Kinds, ModelSplit,
                         ::testing::ValuesIn(config::linear_family_names()),
                         [](const auto& info) { return info.param; });

// All tokens see each other. Whatever the labels: here the next tokens.
TEST(Model, EncodersAreExact) {
  for (const char* kind : {"basic", "based", "rebased"}) {
    for (const char* pattern : {"L", "LN"}) {
      ModelConfig config = tiny(kind, pattern);
      config.layers = 2;
      config.causal = false;
      expect_exact(config, 13, {1, 2, 3, 5}, splits());
      expect_exact(config, 4, {5}, splits());
    }
  }
  ModelConfig config = tiny("basic", "N");
  config.causal = false;
  expect_exact(config, 13, {1, 2, 3, 4}, splits());
  expect_exact(config, 13, {3}, {splits()[0]}, {{1, 5, 6}, {9, 13}});
  config.pattern = "L";
  EXPECT_THAT(
      [&] {
        split(config, 13, 1, splits()[0], ElementType::float64, {{5}, {5}});
      },
      testing::ThrowsMessage<InvalidArgument>(
          testing::HasSubstr("documents with a full mask")));
  config.linear.set("feature_map", "identity");
  expect_exact(config, 11, {1, 3}, splits());
}

TEST(Model, IdentityFeaturesAreExact) {
  ModelConfig config = tiny("basic", "LN");
  config.linear.set("feature_map", "identity");
  expect_exact(config, 11, {1, 3, 4}, {splits()[0], splits()[1]});
}

TEST(Model, SlidingWindowsAreExact) {
  ModelConfig config = tiny("gla", "NLN");
  config.sliding_windows = {4, 0, 2};
  expect_exact(config, 13, {1, 2, 3, 4, 5}, splits());
  expect_exact(config, 13, {1, 3, 4}, splits(), {{6, 7}, {}});
  config.pattern = "N";
  config.sliding_windows = {3};
  expect_exact(config, 13, {3}, {{"striped", "multi_ring", "chain"}},
               {{5}, {8}});
}

// Of three frequencies, one in each of the three ranges of the scaling.
TEST(Model, ScaledRopeIsExact) {
  ModelConfig config = tiny("gla", "N");
  config.rope_theta = 50;
  config.rope_scaling =
      config::RopeScaling{.factor = 4,
                          .low_freq_factor = 1,
                          .high_freq_factor = 3,
                          .original_max_position_embeddings = 40};
  expect_exact(config, 13, {1, 3}, {{"striped", "multi_ring", "chain"}});
}

TEST(Model, WithoutASeedHasShapesAlone) {
  for (const char* kind : {"basic", "lightning", "gla"}) {
    const ModelConfig config = tiny(kind);
    const Model drawn(config, ElementType::bfloat16, 0);
    const Model shapes(config, ElementType::bfloat16, {});
    ASSERT_EQ(shapes.parameters().size(), drawn.parameters().size());
    for (std::size_t i = 0; i < drawn.parameters().size(); ++i) {
      const auto& [name, value] = shapes.parameters()[i];
      EXPECT_EQ(name, drawn.parameters()[i].name);
      EXPECT_EQ(value.sizes(), drawn.parameters()[i].value.sizes());
      EXPECT_EQ(value.scalar_type(), at::kFloat);
      EXPECT_TRUE(value.is_meta());
    }
  }
}

TEST(Model, BordersOutsideTheSequenceAreRefused) {
  comm::run_ranks(1, [](Rank, std::shared_ptr<comm::Transport> transport) {
    comm::Communicator communicator(std::move(transport), {});
    const Context context =
        make_context(tiny("gla"), ElementType::float64,
                     {.layout = schedule::Layout::contiguous(8, 1),
                      .softmax = schedule::strategy_from_name("ring"),
                      .linear = schedule::state_exchange_from_name("chain")},
                     communicator);
    for (const Borders& borders : {Borders{0}, {9}, {4, 4}, {5, 4}}) {
      EXPECT_THROW(with_documents(context, {borders}), InvalidArgument);
    }
  });
}

TEST(Model, PureSoftmaxAndPureLinearAreExact) {
  expect_exact(tiny("gla", "N"), 9, {1, 3},
               {{"striped", "multi_ring", "chain"}, splits()[0]});
  expect_exact(tiny("gla", "L"), 9, {1, 3}, {splits()[0]});
}

TEST(Model, TiedEmbeddingsAreExact) {
  ModelConfig config = tiny("lightning");
  config.tie_embeddings = true;
  config.kv_heads = 1;
  expect_exact(config, 7, {1, 2}, {splits()[0]});
  const Model model(config, ElementType::float64, 0);
  EXPECT_EQ(model.parameters().back().name, "model.norm.weight");
}

void expect_near_in_lower_precision(const ModelConfig& config) {
  const Result want = reference(config, 13);
  for (const int ranks : {1, 3}) {
    expect_near(split(config, 13, ranks, splits()[0], ElementType::float32),
                want, config, 2e-5);
    const Result rough =
        split(config, 13, ranks, splits()[0], ElementType::bfloat16);
    EXPECT_NEAR(rough.loss, want.loss, 0.05);
    EXPECT_LE(relative_error(rough.gradients, want.gradients), 0.1);
  }
}

TEST(Model, LowerPrecisionIsNearTheReference) {
  for (const char* kind : {"basic", "lightning", "gla"}) {
    expect_near_in_lower_precision(tiny(kind));
  }
}

TEST(Model, ConvolutionsInLowerPrecisionAreNearTheReference) {
  for (const char* kind : {"lightning", "mamba2"}) {
    ModelConfig config = tiny(kind, "LN");
    config.layers = 2;
    config.linear.set("convolution", 4);
    expect_near_in_lower_precision(config);
  }
}

TEST(Model, WeightsDependOnTheSeedAndNotOnTheType) {
  const ModelConfig config = tiny("gla");
  const Model a(config, ElementType::float64, 1);
  const Model b(config, ElementType::bfloat16, 1);
  const Model c(config, ElementType::float64, 2);
  for (std::size_t i = 0; i < a.parameters().size(); ++i) {
    const at::Tensor& value = a.parameters()[i].value;
    EXPECT_EQ(a.parameters()[i].name, b.parameters()[i].name);
    EXPECT_EQ(b.parameters()[i].value.scalar_type(), at::kFloat);
    EXPECT_TRUE(value.to(at::kFloat).equal(b.parameters()[i].value));
    if (value.dim() == 2) {
      EXPECT_FALSE(value.equal(c.parameters()[i].value));
    }
  }
}

TEST(Model, NamesAreThoseOfHuggingFace) {
  ModelConfig config = tiny("basic", "LN");
  config.layers = 2;
  std::vector<std::string> names;
  const Model model(config, ElementType::float32, 0);
  for (const Parameter& parameter : model.parameters()) {
    names.push_back(parameter.name);
  }
  std::vector<std::string> want = {"model.embed_tokens.weight"};
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    for (const char* name :
         {"input_layernorm", "self_attn.q_proj", "self_attn.k_proj",
          "self_attn.v_proj", "self_attn.o_proj", "post_attention_layernorm",
          "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}) {
      want.push_back(layer + name + ".weight");
    }
  }
  want.insert(want.end(), {"model.norm.weight", "lm_head.weight"});
  EXPECT_EQ(names, want);
}

TEST(Model, StripedShardsAndLinearLayersAreRefused) {
  try {
    split(tiny("basic"), 9, 2, {"striped", "ring", "chain"});
    FAIL() << "nothing was thrown";
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(), HasSubstr("got \"striped\" with linear layers"));
  }
}

TEST(Model, TokensOfAnotherLengthAreRefused) {
  comm::run_ranks(1, [](Rank, std::shared_ptr<comm::Transport> transport) {
    comm::Communicator communicator(std::move(transport));
    const ModelConfig config = tiny("basic");
    const Context context =
        make_context(config, ElementType::float32,
                     {.layout = schedule::Layout::contiguous(6, 1),
                      .softmax = schedule::strategy_from_name("direct"),
                      .linear = schedule::state_exchange_from_name("chain")},
                     communicator);
    const Model model(config, ElementType::float32, 0);
    EXPECT_THROW(model.forward(at::zeros({1, 5}, at::kLong), context),
                 InvalidArgument);
    EXPECT_THROW(shard_sequences(at::zeros({1, 6}, at::kLong), context),
                 InvalidArgument);
  });
}

TEST(Loss, SumsOwnTokensOverTheGlobalCount) {
  // Two tokens with equal logits over 4 words, 8 tokens in all.
  const at::Tensor logits =
      at::zeros({1, 2, 4}, at::kBFloat16).requires_grad_(true);
  const at::Tensor labels = at::zeros({1, 2}, at::kLong);
  const at::Tensor value = loss(logits, labels, 8);
  EXPECT_EQ(value.scalar_type(), at::kFloat);
  EXPECT_NEAR(value.item<double>(), 2 * std::log(4.0) / 8, 1e-6);
}

TEST(Loss, OfNoTokensIsZeroWithAGradient) {
  const at::Tensor logits =
      at::zeros({2, 0, 4}, at::kDouble).requires_grad_(true);
  const at::Tensor value = loss(logits, at::zeros({2, 0}, at::kLong), 8);
  EXPECT_EQ(value.item<double>(), 0.0);
  value.backward();
  EXPECT_TRUE(logits.grad().defined());
}

}  // namespace
}  // namespace ringweave::models
