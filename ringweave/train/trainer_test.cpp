#include "ringweave/train/trainer.h"

#include <chrono>
#include <cmath>
#include <map>
#include <stdexcept>
#include <tuple>
#include <vector>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/comm/local_ranks.h"
#include "ringweave/train/test_run.h"

namespace ringweave::train {
namespace {

using ::testing::HasSubstr;
using ::testing::Lt;

void expect_same_losses(ElementType compute, double tolerance) {
  const Log one = train(tiny(1, compute));
  const Log four = train(tiny(4, compute));
  ASSERT_EQ(one.steps.size(), 50u);
  ASSERT_EQ(four.steps.size(), 50u);
  for (std::size_t i = 0; i < one.steps.size(); ++i) {
    EXPECT_NEAR(four.steps[i].loss, one.steps[i].loss, tolerance) << i;
    EXPECT_DOUBLE_EQ(four.steps[i].learning_rate, one.steps[i].learning_rate);
  }
  EXPECT_NEAR(*four.report.validation_loss, *one.report.validation_loss,
              tolerance);
  EXPECT_NEAR(one.steps.front().loss, std::log(256.0), 0.1);
  EXPECT_THAT(one.steps.back().loss, Lt(one.steps.front().loss - 0.8));
}

TEST(Trainer, FourRanksFollowOneInFloat64) {
  expect_same_losses(ElementType::float64, 1e-9);
}

TEST(Trainer, FourRanksFollowOneInFloat32) {
  expect_same_losses(ElementType::float32, 1e-4);
}

/// Ways to split the work, which change no loss.
struct Way {
  const char* name;
  int ranks, data, accumulation;
  bool shard_optimizer;
  const char* layout = "zigzag";
  const char* recompute = "none";
  bool documents = false;
  std::vector<std::int64_t> sliding_windows = {};
  int seq_len = 21;
};

/// Of one rank, by none of the ways.
TrainConfig base_of(const Way& way, ElementType compute) {
  TrainConfig config = tiny(1, compute);
  config.data.batch = 6;
  config.data.seq_len = way.seq_len;
  config.data.documents = way.documents ? "reset" : "ignore";
  config.model.pattern = "NLLN";
  config.model.sliding_windows = way.sliding_windows;
  config.steps = 30;
  config.validation = {.every = 10, .batches = 3};
  return config;
}

TrainConfig config_of(const Way& way, ElementType compute) {
  TrainConfig config = base_of(way, compute);
  config.parallel.ranks = way.ranks;
  config.parallel.data = way.data;
  config.parallel.accumulation = way.accumulation;
  config.parallel.shard_optimizer = way.shard_optimizer;
  config.parallel.bucket_bytes = 1;  // each layer's by itself
  config.parallel.layout = way.layout;
  config.parallel.recompute = way.recompute;
  return config;
}

/// Root of the mean square over the steps.
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::pow(a[i] - b[i], 2);
  return std::sqrt(sum / static_cast<double>(a.size()));
}

std::ostream& operator<<(std::ostream& out, const Way& way) {
  return out << way.name;
}

/// Of base_of(): once for all ways that have the same.
const Log& base_run(const Way& way, ElementType compute) {
  using Key = std::tuple<bool, std::vector<std::int64_t>, int, ElementType>;
  static std::map<Key, Log> runs;
  const Key key = {way.documents, way.sliding_windows, way.seq_len, compute};
  const auto known = runs.find(key);
  if (known != runs.end()) return known->second;
  return runs[key] = train(base_of(way, compute));
}

class Ways : public ::testing::TestWithParam<Way> {};

TEST_P(Ways, LossesAreThoseOfOneRank) {
  const Log& one = base_run(GetParam(), ElementType::float64);
  expect_alike(train(config_of(GetParam(), ElementType::float64)), one);
}

// Rounding may differ, but many ranks must not round worse than one.
TEST_P(Ways, Bfloat16IsAsGoodAsOnOneRank) {
  const auto exact = base_run(GetParam(), ElementType::float64).losses();
  const auto one = base_run(GetParam(), ElementType::bfloat16).losses();
  const auto many =
      train(config_of(GetParam(), ElementType::bfloat16)).losses();
  EXPECT_LE(distance(many, exact), 1.5 * distance(one, exact));
  EXPECT_GT(distance(one, exact), 0);
}

INSTANTIATE_TEST_SUITE_P(
    Trainer, Ways,
    ::testing::Values(
        Way{"accumulation", 1, 1, 3, false}, Way{"groups", 4, 2, 1, false},
        Way{"groups_of_one", 3, 3, 1, false}, Way{"sharded", 4, 1, 1, true},
        Way{"sharded_groups", 4, 2, 1, true},
        // More ranks of a group than tokens, and few of both: messages are what
        // takes long.
        Way{.name = "empty_shards",
            .ranks = 22,
            .data = 2,
            .accumulation = 1,
            .shard_optimizer = false,
            .layout = "contiguous",
            .seq_len = 9},
        Way{"recompute", 3, 1, 1, false, "zigzag", "block"},
        Way{"documents", 3, 1, 1, false, "zigzag", "none", true},
        Way{"documents_of_groups", 4, 2, 1, true, "zigzag", "none", true},
        Way{"windows", 3, 1, 1, false, "zigzag", "none", false, {5, 0}},
        Way{"all", 6, 2, 3, true, "contiguous", "block", true, {0, 4}}),
    [](const auto& way) { return std::string(way.param.name); });

TEST(Trainer, RecomputingChangesNoBitAndSendsBlocksAgain) {
  TrainConfig config = tiny(3, ElementType::float32);
  config.steps = 5;
  const Log kept = train(config);
  config.parallel.recompute = "mlp";
  const Log mlp = train(config);
  EXPECT_EQ(mlp.losses(), kept.losses());
  EXPECT_EQ(mlp.report.spent.bytes, kept.report.spent.bytes);
  config.parallel.recompute = "block";
  const Log block = train(config);
  EXPECT_EQ(block.losses(), kept.losses());
  EXPECT_GT(block.report.spent.bytes, kept.report.spent.bytes);
}

TEST(Trainer, BucketsChangeNoBitAndNoByte) {
  for (const bool sharded : {false, true}) {
    TrainConfig config = tiny(4, ElementType::float32);
    config.steps = 5;
    config.data.batch = 4;
    config.parallel.data = 2;
    config.parallel.accumulation = 2;
    config.parallel.shard_optimizer = sharded;
    config.parallel.bucket_bytes = 0;
    const Log behind = train(config);
    for (const std::int64_t bytes : {1, 20000}) {
      config.parallel.bucket_bytes = bytes;
      for (const char* recompute : {"none", "mlp", "block"}) {
        config.parallel.recompute = recompute;
        const Log during = train(config);
        EXPECT_EQ(during.losses(), behind.losses());
        if (recompute != std::string("block")) {
          EXPECT_EQ(during.report.spent.bytes, behind.report.spent.bytes);
        }
      }
    }
  }
}

TEST(Trainer, TheSameRanksGiveTheSameBits) {
  TrainConfig config = tiny(3, ElementType::float32);
  config.steps = 8;
  config.parallel.layout = "contiguous";
  config.parallel.linear = "chain";
  EXPECT_EQ(train(config).losses(), train(config).losses());
}

TEST(Trainer, Bfloat16Learns) {
  TrainConfig config = tiny(2, ElementType::bfloat16);
  config.parallel.grad_payload = "compute";
  const Log log = train(config);
  EXPECT_THAT(log.steps.back().loss, Lt(log.steps.front().loss - 0.8));
}

TEST(Trainer, ReportsWhatHappened) {
  TrainConfig config = tiny(2, ElementType::float32);
  config.steps = 6;
  config.validation = {.every = 2, .batches = 3};
  StartReport start;
  std::vector<std::int64_t> order;
  const TrainReport report = run_on(
      comm::Engine(), config, exchanges(config), dataset(config),
      {.start = [&](const StartReport& s) { start = s; },
       .step =
           [&](const StepReport& step) {
             order.push_back(step.step);
             EXPECT_GT(step.grad_norm, 0);
             const SpentByAll& spent = step.spent;
             EXPECT_GT(spent.seconds, 0);
             EXPECT_NEAR(step.tokens_per_second * spent.seconds, 3 * 21, 1e-6);
             EXPECT_GT(spent.bytes, 0);
             EXPECT_GE(spent.waiting.max, spent.waiting.mean);
             EXPECT_LE(spent.waiting.max, 1);
             for (const Shares& part :
                  {spent.softmax_waiting, spent.linear_waiting,
                   spent.gradient_waiting}) {
               EXPECT_GT(part.mean, 0);
               EXPECT_LE(part.max, spent.waiting.max);
             }
             EXPECT_LE(spent.softmax_waiting.mean + spent.linear_waiting.mean +
                           spent.gradient_waiting.mean,
                       spent.waiting.mean + 1e-12);
             EXPECT_GT(spent.optimizer.mean, 0);
             EXPECT_LE(spent.optimizer.mean + spent.waiting.mean, 1);
           },
       .validation =
           [&](const ValidationReport& validation) {
             order.push_back(-validation.step);
             EXPECT_EQ(validation.tokens, 3 * 3 * 21);
           }});
  EXPECT_EQ(order, (std::vector<std::int64_t>{1, 2, -2, 3, 4, -4, 5, 6, -6}));
  EXPECT_EQ(report.steps, 6);
  EXPECT_EQ(start.validation_tokens, 3 * 3 * 21);
  EXPECT_EQ(start.train_tokens, 3700);
  EXPECT_GT(start.parameters, 2 * 256 * 16);
  EXPECT_GT(report.spent.bytes, 0);
  EXPECT_TRUE(report.validation_loss.has_value());
}

TEST(Trainer, ValidationIsTheMeanOverAllItsTokens) {
  // No step: the same weights whatever the batch, whose last one is smaller.
  TrainConfig config = tiny(2, ElementType::float64);
  config.steps = 0;
  const Log a = train(config);
  config.data.batch = 4;
  const Log b = train(config);
  ASSERT_EQ(a.validations.size(), 1u);
  EXPECT_GT(a.validations[0].tokens, 200);
  EXPECT_EQ(a.validations[0].tokens, b.validations[0].tokens);
  EXPECT_NEAR(a.validations[0].loss, b.validations[0].loss, 1e-12);
  EXPECT_FALSE(a.report.first_loss.has_value());
}

TEST(Trainer, AnErrorOnOneRankEndsAll) {
  TrainConfig config = tiny(3, ElementType::float32);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THROW(
      run_on(comm::Engine(), config, exchanges(config), dataset(config),
             {.start = {},
              .step =
                  [](const StepReport& step) {
                    if (step.step == 2) {
                      throw std::runtime_error("full disk");
                    }
                  },
              .validation = {}}),
      std::runtime_error);
  const std::chrono::duration<double> seconds =
      std::chrono::steady_clock::now() - start;
  EXPECT_LT(seconds.count(), 20);
}

/// What each rank throws when rank 1 differs.
std::vector<std::string> disagreements(
    const std::function<void(TrainConfig&, std::string&)>& differ) {
  const TrainConfig base = tiny(3, ElementType::float32);
  const auto outcomes = comm::rank_outcomes(
      3, [&](Rank rank, std::shared_ptr<comm::Transport> transport) {
        TrainConfig config = base;
        std::string text = words();
        if (rank == 1) differ(config, text);
        const Dataset data = dataset(config, text);
        comm::Communicator communicator(std::move(transport),
                                        time_outs(config));
        const Exchanges chosen = exchanges(config);
        communicator.check_agreement(facts(config, chosen, data.hash()));
        run(config, chosen, data, communicator);
      });
  std::vector<std::string> texts;
  for (const auto& outcome : outcomes) {
    try {
      if (outcome) std::rethrow_exception(outcome);
      texts.push_back("");
    } catch (const InvalidArgument& error) {
      texts.push_back(error.what());
    }
  }
  return texts;
}

TEST(Trainer, StopsWhenTheLossIsNoNumber) {
  for (const int ranks : {1, 2}) {
    TrainConfig config = tiny(ranks, ElementType::float32);
    config.optimizer.learning_rate = 1e300;
    config.optimizer.warmup_steps = 0;
    EXPECT_THAT([&] { train(config); },
                ::testing::ThrowsMessage<Error>(
                    AllOf(HasSubstr("got a loss of"), HasSubstr("in step 2"),
                          HasSubstr("optimizer.learning_rate"))));
  }
}

TEST(Trainer, RanksWithDifferentConfigsOrTextsAllSaySo) {
  for (const auto& text : disagreements([](TrainConfig&config, std::string&) {
         config.optimizer.learning_rate *= 2;
       })) {
    EXPECT_THAT(text, HasSubstr("got config.optimizer.learning_rate"));
    EXPECT_LT(text.size(), 200u);
  }
  for (const auto& text : disagreements(
           [](TrainConfig&, std::string& words) { words[17] = 'X'; })) {
    EXPECT_THAT(text, HasSubstr("data"));
  }
  // Where the text lies may differ.
  TrainConfig config = tiny(3, ElementType::float32);
  config.steps = 1;
  comm::run_ranks(
      3, [&](Rank rank, std::shared_ptr<comm::Transport> transport) {
        TrainConfig mine = config;
        mine.data.files = {fmt::format("folder-{}", rank)};
        comm::Communicator communicator(std::move(transport), time_outs(mine));
        const Exchanges chosen = exchanges(mine);
        const Dataset data = dataset(mine);
        communicator.check_agreement(facts(mine, chosen, data.hash()));
        EXPECT_EQ(run(mine, chosen, data, communicator).steps, 1);
      });
}

TEST(Trainer, WhatMemoryCannotHoldIsRefusedAtOnce) {
  const auto error = [](auto change) -> std::string {
    TrainConfig config = tiny(2, ElementType::float32);
    change(config);
    try {
      run_on(comm::Engine(), config, exchanges(config), dataset(config));
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "no error";
  };
  constexpr std::int64_t kHuge = std::int64_t{1} << 40;
  for (const auto field :
       {&config::ModelConfig::layers, &config::ModelConfig::hidden,
        &config::ModelConfig::intermediate, &config::ModelConfig::head_dim,
        &config::ModelConfig::vocab_size}) {
    EXPECT_THAT(
        error([&](TrainConfig& config) { config.model.*field = kHuge; }),
        HasSubstr("this machine's memory"));
  }
  EXPECT_THAT(error([&](TrainConfig& config) {
                config.model.linear.set("gate_rank", kHuge);
              }),
              HasSubstr("this machine's memory"));
  EXPECT_THAT(error([&](TrainConfig& config) { config.data.batch = kHuge; }),
              HasSubstr("this machine's memory"));
}

TEST(Trainer, TimeOutsAreTheConfigs) {
  TrainConfig config;
  config.time_outs = {.start_seconds = 2.5, .step_seconds = 12};
  EXPECT_EQ(time_outs(config).start.count(), 2500);
  EXPECT_EQ(time_outs(config).step.count(), 12000);
}

TEST(Trainer, AnotherNumberOfRanksIsRefused) {
  comm::run_ranks(2, [](Rank, std::shared_ptr<comm::Transport> transport) {
    comm::Communicator communicator(std::move(transport));
    const TrainConfig config = tiny(3, ElementType::float32);
    EXPECT_THROW(run(config, exchanges(config), dataset(config), communicator),
                 InvalidArgument);
  });
}

}  // namespace
}  // namespace ringweave::train
