// For tests: a small run, and what it reported.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "ringweave/data/test_source.h"
#include "ringweave/train/trainer.h"

namespace ringweave::train {

inline TrainConfig tiny(int ranks, ElementType compute) {
  TrainConfig config;
  config.model.hidden = 16;
  config.model.intermediate = 24;
  config.model.layers = 4;
  config.model.heads = 4;
  config.model.kv_heads = 2;
  config.model.head_dim = 4;
  config.model.linear = config::LinearConfig("gla");
  config.data.files = {"given directly"};
  config.data.seq_len = 21;
  config.data.batch = 3;
  config.optimizer.learning_rate = 3e-3;
  config.optimizer.warmup_steps = 5;
  config.steps = 50;
  config.compute = compute;
  config.parallel.ranks = ranks;
  config.time_outs = {.start_seconds = 30, .step_seconds = 30};
  config.threads = 1;
  return config;
}

/// Words of a small vocabulary in an irregular order.
inline std::string words() {
  const std::vector<std::string> words = {"the ",    "ring ", "weaves ", "a ",
                                          "shard, ", "then ", "state.\n"};
  std::string text;
  std::uint32_t x = 1;
  while (text.size() < 4000) {
    x = x * 1664525u + 1013904223u;
    text += words[(x >> 16) % words.size()];
  }
  return text;
}

/// A line is a document. The last 300 bytes or so are to validate on.
inline Dataset dataset(const TrainConfig& config,
                       const std::string& text = words()) {
  std::vector<std::string> train, validation;
  constexpr std::size_t kTrain = 3700;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t newline = text.find('\n', at);
    const std::size_t end =
        std::min({newline == text.npos ? text.size() : newline + 1,
                  at < kTrain ? kTrain : text.size()});
    (at < kTrain ? train : validation).push_back(text.substr(at, end - at));
    at = end;
  }
  return data::make_dataset(data::test::corpus({train}),
                            data::test::corpus({validation}), config.data);
}

struct Log {
  std::vector<StepReport> steps;
  std::vector<ValidationReport> validations;
  TrainReport report;

  std::vector<double> losses() const {
    std::vector<double> losses;
    for (const auto& step : steps) losses.push_back(step.loss);
    return losses;
  }
};

/// Expects equal losses to 1e-9, and gradient norms, the scale of the gradients
/// and not only their direction, to a share of `norm_tolerance`.
inline void expect_alike(const Log& got, const Log& want,
                         double norm_tolerance = 1e-9) {
  ASSERT_EQ(got.steps.size(), want.steps.size());
  for (std::size_t i = 0; i < want.steps.size(); ++i) {
    EXPECT_NEAR(got.steps[i].loss, want.steps[i].loss, 1e-9) << i;
    EXPECT_NEAR(got.steps[i].grad_norm / want.steps[i].grad_norm, 1,
                norm_tolerance)
        << i;
  }
  ASSERT_EQ(got.validations.size(), want.validations.size());
  for (std::size_t i = 0; i < want.validations.size(); ++i) {
    EXPECT_NEAR(got.validations[i].loss, want.validations[i].loss, 1e-9);
    EXPECT_EQ(got.validations[i].tokens, want.validations[i].tokens);
  }
}

/// `stop_after`: the step after which the run is asked to stop; 0: never.
inline Log train(const TrainConfig& config, const Saving& saving = {},
                 std::int64_t stop_after = 0) {
  Log log;
  std::atomic<std::int64_t> steps = saving.resume.value_or(0);
  const Callbacks callbacks{
      // Of one rank of several.
      .stop =
          [&] { return stop_after > 0 && steps + 1 == stop_after ? 15 : 0; },
      .step =
          [&](const StepReport& step) {
            log.steps.push_back(step);
            steps = step.step;
          },
      .validation =
          [&](const ValidationReport& validation) {
            log.validations.push_back(validation);
          }};
  log.report = run_on(comm::Engine(), config, exchanges(config),
                      dataset(config), callbacks, saving);
  return log;
}

}  // namespace ringweave::train
