#include "ringweave/models/model.h"

#include <chrono>
#include <cmath>
#include <span>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/comm/local_ranks.h"
#include "ringweave/models/reference.h"

namespace ringweave::models {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kSeed = 5;
constexpr std::int64_t kBatch = 2;

ModelConfig tiny(LinearKind kind, const std::string& pattern = "LLLN") {
  ModelConfig config;
  config.vocab_size = 11;
  config.hidden = 12;
  config.intermediate = 10;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 6;
  config.pattern = pattern;
  config.linear.kind = kind;
  config.linear.gate_rank = 3;
  return config;
}

struct SplitNames {
  std::string layout;
  std::string softmax;
  std::string linear;
};

/// Makes small initial weights large enough that every layer matters.
void enlarge(const Model& model) {
  const at::NoGradGuard no_gradients;
  std::int64_t seed = 100;
  for (const Parameter& parameter : model.parameters()) {
    at::Tensor value = parameter.value;
    auto generator =
        at::detail::createCPUGenerator(static_cast<std::uint64_t>(seed++));
    if (value.dim() == 1) {
      value.add_(at::randn(value.sizes(), generator, at::kDouble) * 0.3);
    } else {
      value.mul_(0.4 / value.pow(2).mean().sqrt());
    }
  }
}

at::Tensor sequences_of(std::int64_t tokens, std::int64_t vocab) {
  auto generator = at::detail::createCPUGenerator(9);
  return at::randint(0, vocab, {kBatch, tokens + 1}, generator, at::kLong);
}

struct Result {
  double loss = 0;
  std::vector<at::Tensor> gradients;  ///< in fp64
};

Result reference(const ModelConfig& config, std::int64_t tokens) {
  const Model model(config, Compute::float64, kSeed);
  enlarge(model);
  const at::Tensor loss = test::reference_loss(
      config, model.parameters(), sequences_of(tokens, config.vocab_size));
  loss.backward();
  Result result{.loss = loss.item<double>(), .gradients = {}};
  for (const Parameter& parameter : model.parameters()) {
    result.gradients.push_back(parameter.value.grad());
  }
  return result;
}

/// Loss and gradients summed over the ranks.
Result split(const ModelConfig& config, std::int64_t tokens, int ranks,
             const SplitNames& names, Compute compute = Compute::float64) {
  at::set_num_threads(1);
  Result result;
  comm::run_ranks(ranks, [&](Rank rank,
                             std::shared_ptr<comm::Transport> transport) {
    using std::chrono::seconds;
    comm::Communicator communicator(
        std::move(transport), {.start = seconds(30), .step = seconds(30)});
    const Context context = make_context(
        config, compute,
        {.layout = schedule::Layout::named(names.layout, tokens, ranks),
         .softmax = schedule::strategy_from_name(names.softmax),
         .linear = linear_attention::transport_from_name(names.linear)},
        communicator);
    const Model model(config, compute, kSeed);
    enlarge(model);
    const Shard shard =
        shard_sequences(sequences_of(tokens, config.vocab_size), context);
    const at::Tensor own = loss(model.forward(shard.tokens, context),
                                shard.labels, kBatch * tokens);
    own.backward();
    double sum = own.item<double>();
    communicator.all_reduce_sum(std::span(&sum, 1));
    if (rank == 0) result.loss = sum;
    for (const Parameter& parameter : model.parameters()) {
      // A parameter that took no part has no gradient: an error here.
      at::Tensor gradient = parameter.value.grad().to(at::kDouble).contiguous();
      communicator.all_reduce_sum(
          std::span(gradient.mutable_data_ptr<double>(),
                    static_cast<std::size_t>(gradient.numel())));
      if (rank == 0) result.gradients.push_back(gradient);
    }
  });
  return result;
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>() /
         std::max(1.0, b.abs().max().item<double>());
}

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

void expect_near(const Result& got, const Result& want,
                 const ModelConfig& config, double tolerance) {
  EXPECT_LE(std::abs(got.loss - want.loss),
            tolerance * std::max(1.0, want.loss));
  const Model model(config, Compute::float32, kSeed);
  ASSERT_EQ(got.gradients.size(), model.parameters().size());
  for (std::size_t i = 0; i < got.gradients.size(); ++i) {
    EXPECT_LE(difference(got.gradients[i], want.gradients[i]), tolerance)
        << model.parameters()[i].name;
    // Otherwise equality would say little.
    EXPECT_GT(want.gradients[i].abs().max().item<double>(), 1e-6)
        << model.parameters()[i].name;
  }
}

void expect_exact(const ModelConfig& config, std::int64_t tokens,
                  const std::vector<int>& rank_counts,
                  const std::vector<SplitNames>& splits) {
  const Result want = reference(config, tokens);
  for (const int ranks : rank_counts) {
    for (const SplitNames& names : splits) {
      SCOPED_TRACE(fmt::format("{} tokens, {} ranks, {}, {}, {}", tokens, ranks,
                               names.layout, names.softmax, names.linear));
      expect_near(split(config, tokens, ranks, names), want, config, 1e-10);
    }
  }
}

const std::vector<SplitNames> kSplits = {
    {"zigzag", "multi_ring", "all_gather"},
    {"contiguous", "direct", "chain"},
    {"zigzag", "ring", "chain"},
    {"contiguous", "all_gather", "all_gather:multi_ring"},
};

class ModelSplit : public ::testing::TestWithParam<LinearKind> {};

TEST_P(ModelSplit, LossAndGradientsAreThoseOfThePlainModel) {
  expect_exact(tiny(GetParam()), 13, {1, 2, 3, 4, 5}, kSplits);
}

// Fewer tokens than ranks: some ranks, and for one token all but one, have
// nothing to compute, yet the others wait for their messages.
TEST_P(ModelSplit, EmptyShardsTakePart) {
  for (const std::int64_t tokens : {2, 4}) {
    expect_exact(tiny(GetParam()), tokens, {3, 5}, kSplits);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, ModelSplit,
    ::testing::Values(LinearKind::basic, LinearKind::lightning,
                      LinearKind::gla),
    [](const auto& info) {
      return std::string(info.param == LinearKind::basic       ? "basic"
                         : info.param == LinearKind::lightning ? "lightning"
                                                               : "gla");
    });

TEST(Model, IdentityFeaturesAreExact) {
  ModelConfig config = tiny(LinearKind::basic, "LN");
  config.linear.feature_map = FeatureMap::identity;
  expect_exact(config, 11, {1, 3, 4}, {kSplits[0], kSplits[1]});
}

TEST(Model, PureSoftmaxAndPureLinearAreExact) {
  expect_exact(tiny(LinearKind::gla, "N"), 9, {1, 3},
               {{"striped", "multi_ring", "chain"}, kSplits[0]});
  expect_exact(tiny(LinearKind::gla, "L"), 9, {1, 3}, {kSplits[0]});
}

TEST(Model, TiedEmbeddingsAreExact) {
  ModelConfig config = tiny(LinearKind::lightning);
  config.tie_embeddings = true;
  config.kv_heads = 1;
  expect_exact(config, 7, {1, 2}, {kSplits[0]});
  const Model model(config, Compute::float64, kSeed);
  EXPECT_EQ(model.parameters().back().name, "model.norm.weight");
}

TEST(Model, LowerPrecisionIsNearTheReference) {
  for (const LinearKind kind :
       {LinearKind::basic, LinearKind::lightning, LinearKind::gla}) {
    const ModelConfig config = tiny(kind);
    const Result want = reference(config, 13);
    for (const int ranks : {1, 3}) {
      expect_near(split(config, 13, ranks, kSplits[0], Compute::float32), want,
                  config, 2e-5);
      const Result rough =
          split(config, 13, ranks, kSplits[0], Compute::bfloat16);
      EXPECT_NEAR(rough.loss, want.loss, 0.05);
      EXPECT_LE(relative_error(rough.gradients, want.gradients), 0.1);
    }
  }
}

TEST(Model, WeightsDependOnTheSeedAndNotOnTheType) {
  const ModelConfig config = tiny(LinearKind::gla);
  const Model a(config, Compute::float64, 1);
  const Model b(config, Compute::bfloat16, 1);
  const Model c(config, Compute::float64, 2);
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
  ModelConfig config = tiny(LinearKind::basic, "LN");
  config.layers = 2;
  std::vector<std::string> names;
  const Model model(config, Compute::float32, 0);
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
    split(tiny(LinearKind::basic), 9, 2, {"striped", "ring", "chain"});
    FAIL() << "nothing was thrown";
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(), HasSubstr("want"));
  }
}

TEST(Model, TokensOfAnotherLengthAreRefused) {
  comm::run_ranks(1, [](Rank, std::shared_ptr<comm::Transport> transport) {
    comm::Communicator communicator(std::move(transport));
    const ModelConfig config = tiny(LinearKind::basic);
    const Context context =
        make_context(config, Compute::float32,
                     {.layout = schedule::Layout::contiguous(6, 1),
                      .softmax = schedule::strategy_from_name("direct"),
                      .linear = linear_attention::transport_from_name("chain")},
                     communicator);
    const Model model(config, Compute::float32, 0);
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
