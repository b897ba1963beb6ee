// For tests: a small run, and what it reported.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

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
inline Data text() {
  const std::vector<std::string> words = {"the ",    "ring ", "weaves ", "a ",
                                          "shard, ", "then ", "state.\n"};
  Data data;
  std::uint32_t x = 1;
  while (data.train.size() < 4000) {
    x = x * 1664525u + 1013904223u;
    data.train += words[(x >> 16) % words.size()];
  }
  data.validation = data.train.substr(3700);
  data.train.resize(3700);
  return data;
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
  log.report = run_on(comm::Engine(), config, exchanges(config), text(),
                      callbacks, saving);
  return log;
}

}  // namespace ringweave::train
