// AdamW on one flat gradient buffer.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/comm/communicator.h"
#include "ringweave/config/train_config.h"
#include "ringweave/models/parameters.h"

namespace ringweave::train {

using config::OptimizerConfig;

/// Learning rate of a step, counted from 1: a linear warm-up that reaches
/// learning_rate at step warmup_steps, then half a cosine that reaches
/// learning_rate · min_lr_ratio at step `steps`.
double learning_rate(const OptimizerConfig& config, std::int64_t step,
                     std::int64_t steps);

/// One contiguous tensor for all gradients; each parameter's grad is a view of
/// its place, so that backward accumulates into it and one all-reduce sums it.
class Gradients {
 public:
  explicit Gradients(const std::vector<models::Parameter>& parameters);

  void zero();
  /// Sums over the ranks, in rank order: equal bits on all of them.
  void all_reduce(comm::Communicator& communicator);
  /// Euclidean norm over all parameters, in fp64.
  double norm() const;
  /// Scales all gradients so that a norm above `limit` becomes `limit`;
  /// limit 0: never. Returns the norm before.
  double clip(double limit);

  const std::vector<at::Tensor>& views() const { return views_; }

 private:
  at::Tensor flat_;
  std::vector<at::Tensor> views_;
};

/// Decoupled weight decay on matrices only (not on norms and biases).
class AdamW {
 public:
  AdamW(const std::vector<models::Parameter>& parameters,
        const Gradients& gradients, const OptimizerConfig& config);

  void step(double learning_rate);

 private:
  struct Group {
    std::vector<at::Tensor> values, gradients, means, squares, steps;
    double weight_decay = 0;
  };

  OptimizerConfig config_;
  std::vector<Group> groups_;
};

}  // namespace ringweave::train
