#include "ringweave/train/gradient_sums.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/comm/local_ranks.h"
#include "ringweave/train/test_run.h"

namespace ringweave::train {
namespace {

models::Model model_of(bool tied) {
  TrainConfig config = tiny(1, ElementType::float32);
  config.model.tie_embeddings = tied;
  return {config.model, ElementType::float32, 0};
}

TEST(GradientBuckets, AreLayersFromTheLastOn) {
  const models::Model model = model_of(false);
  const std::int64_t all = count(model.parameters());
  const auto one = gradient_buckets(model, 0);
  ASSERT_EQ(one.size(), 1u);
  EXPECT_EQ(one[0].range, (Range{0, all}));

  const auto each = gradient_buckets(model, 1);
  ASSERT_EQ(each.size(), 4u);
  std::int64_t end = all;
  for (std::size_t i = 0; i < each.size(); ++i) {
    EXPECT_EQ(each[i].range.end, end);
    end = each[i].range.begin;
    const bool last = i + 1 == each.size();
    EXPECT_EQ(each[i].layer, last ? -1 : 3 - static_cast<std::int64_t>(i));
  }
  EXPECT_EQ(end, 0);
  // The first one begins with its layer's first parameter.
  const auto first = slices(model.parameters(), each[0].range);
  EXPECT_EQ(first.front().parameter->name,
            "model.layers.3.input_layernorm.weight");
  EXPECT_EQ(first.back().parameter->name, "lm_head.weight");

  const auto two = gradient_buckets(model, each[0].range.size() * 4 + 4);
  ASSERT_EQ(two.size(), 2u);
  EXPECT_EQ(two[0].layer, 2);
}

TEST(GradientSums, ALayerIsDoneWhenItsGradientsAre) {
  for (const bool tied : {false, true}) {
    for (const char* recompute : {"none", "mlp", "block"}) {
      TrainConfig config = tiny(1, ElementType::bfloat16);
      config.model.tie_embeddings = tied;
      comm::run_ranks(1, [&](Rank, std::shared_ptr<comm::Transport> transport) {
        comm::Communicator communicator(std::move(transport));
        const models::Model model(config.model, config.compute, 1);
        Gradients gradients(model.parameters());
        models::Split split{
            .layout = schedule::Layout::named("zigzag", 21, 1),
            .softmax = schedule::strategy_from_name("ring"),
            .linear = schedule::state_exchange_from_name("chain"),
            .recompute =
                recompute == std::string("none")  ? models::Recompute::none
                : recompute == std::string("mlp") ? models::Recompute::mlp
                                                  : models::Recompute::block};
        models::Context context = models::make_context(
            config.model, config.compute, split, communicator);
        const auto buckets = gradient_buckets(model, 1);
        std::vector<std::int64_t> done;
        std::vector<at::Tensor> seen;
        context.layer_done = [&](std::int64_t layer) {
          done.push_back(layer);
          // Layer 0 belongs to the last one, which takes the embedding too.
          const Range range = buckets[done.size() - 1].range;
          seen.push_back(
              gradients.flat().narrow(0, range.begin, range.size()).clone());
        };
        const at::Tensor tokens = at::arange(22, at::kLong).view({1, 22});
        const auto shard = models::shard_sequences(tokens, context);
        models::loss(model.forward(shard.tokens, context), shard.labels, 21)
            .backward();
        ASSERT_EQ(done, (std::vector<std::int64_t>{3, 2, 1, 0}));
        for (std::size_t i = 0; i + 1 < done.size(); ++i) {
          const Range range = buckets[i].range;
          EXPECT_TRUE(seen[i].equal(
              gradients.flat().narrow(0, range.begin, range.size())))
              << "layer " << done[i] << ", " << recompute;
          EXPECT_GT(seen[i].abs().sum().item<double>(), 0);
        }
      });
    }
  }
}

}  // namespace
}  // namespace ringweave::train
