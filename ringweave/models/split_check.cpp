#include "ringweave/models/split_check.h"

#include <chrono>
#include <cmath>
#include <span>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "ringweave/comm/local_ranks.h"
#include "ringweave/models/reference.h"
#include "ringweave/models/test_weights.h"

namespace ringweave::models::test {
namespace {

constexpr std::int64_t kSeed = 5;
constexpr std::int64_t kBatch = 2;

at::Tensor sequences_of(std::int64_t tokens, std::int64_t vocab) {
  auto generator = at::detail::createCPUGenerator(9);
  return at::randint(0, vocab, {kBatch, tokens + 1}, generator, at::kLong);
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>() /
         std::max(1.0, b.abs().max().item<double>());
}

}  // namespace

Result reference(const ModelConfig& config, std::int64_t tokens,
                 const std::vector<Borders>& borders) {
  const Model model(config, ElementType::float64, kSeed);
  enlarge(model);
  const at::Tensor loss =
      reference_loss(config, model.parameters(),
                     sequences_of(tokens, config.vocab_size), borders);
  loss.backward();
  Result result{.loss = loss.item<double>(), .gradients = {}};
  for (const Parameter& parameter : model.parameters()) {
    result.gradients.push_back(parameter.value.grad());
  }
  return result;
}

Result split(const ModelConfig& config, std::int64_t tokens, int ranks,
             const SplitNames& names, ElementType compute,
             const std::vector<Borders>& borders) {
  at::set_num_threads(1);
  Result result;
  comm::run_ranks(ranks, [&](Rank rank,
                             std::shared_ptr<comm::Transport> transport) {
    using std::chrono::seconds;
    comm::Communicator communicator(
        std::move(transport), {.start = seconds(30), .step = seconds(30)});
    Context context = make_context(
        config, compute,
        {.layout = schedule::Layout::named(names.layout, tokens, ranks),
         .softmax = schedule::strategy_from_name(names.softmax),
         .linear = schedule::state_exchange_from_name(names.linear)},
        communicator);
    std::int64_t labels = kBatch * tokens;
    if (!borders.empty()) {
      context = with_documents(context, borders);
      for (const Borders& row : borders) {
        labels -= static_cast<std::int64_t>(row.size());
      }
    }
    const Model model(config, compute, kSeed);
    enlarge(model);
    const Shard shard =
        shard_sequences(sequences_of(tokens, config.vocab_size), context);
    const at::Tensor own =
        loss(model.forward(shard.tokens, context), shard.labels, labels);
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

void expect_near(const Result& got, const Result& want,
                 const ModelConfig& config, double tolerance) {
  EXPECT_LE(std::abs(got.loss - want.loss),
            tolerance * std::max(1.0, want.loss));
  const Model model(config, ElementType::float32, kSeed);
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
                  const std::vector<SplitNames>& splits,
                  const std::vector<Borders>& borders) {
  const Result want = reference(config, tokens, borders);
  for (const int ranks : rank_counts) {
    for (const SplitNames& names : splits) {
      SCOPED_TRACE(fmt::format("{} tokens, {} ranks, {}, {}, {}", tokens, ranks,
                               names.layout, names.softmax, names.linear));
      expect_near(
          split(config, tokens, ranks, names, ElementType::float64, borders),
          want, config, 1e-10);
    }
  }
}

const std::vector<SplitNames>& splits() {
  static const std::vector<SplitNames> all = {
      {"zigzag", "multi_ring", "all_gather"},
      {"contiguous", "direct", "chain"},
      {"zigzag", "ring", "pipelined_chain"},
      {"contiguous", "all_gather", "all_gather:multi_ring"},
      {"zigzag", "direct", "sharded_scan"},
      {"zigzag", "ring_reverse", "log_step"},
  };
  return all;
}

}  // namespace ringweave::models::test
