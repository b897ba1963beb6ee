// AdamW on flat buffers, whole or a piece on each rank.
//
// All numbers of a model, one parameter after the other, have one numbering, in
// which the ranks' pieces are cut().
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/base/range.h"
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

/// Of all parameters together.
std::int64_t count(const std::vector<models::Parameter>& parameters);

/// What lies of one parameter in a piece of all numbers.
struct Slice {
  const models::Parameter* parameter;
  Range range;   ///< of the numbering of all
  Range within;  ///< the same, of the parameter's own
};
/// Not of parameters of which nothing does. `parameters` must outlive them.
std::vector<Slice> slices(const std::vector<models::Parameter>& parameters,
                          const Range& piece);

/// One contiguous tensor for all gradients; each parameter's grad is a view of
/// its place, into which backward adds.
class Gradients {
 public:
  explicit Gradients(const std::vector<models::Parameter>& parameters);

  void zero();
  /// Scales the gradients of `piece` so that a norm above `limit` becomes
  /// `limit`; limit 0: never. `norm`: of all gradients.
  void clip(double norm, double limit, const Range& piece);

  /// Euclidean norm over all parameters, in fp64.
  double norm() const;
  /// The same where each rank has its piece: the squares of the pieces are
  /// summed in rank order.
  double norm(const Range& piece, comm::Communicator& communicator) const;

  const at::Tensor& flat() const { return flat_; }

 private:
  at::Tensor flat_;
};

/// Makes the parameters views of one contiguous tensor, in which they keep
/// their values, and returns it: each rank's updates travel as one piece of it.
at::Tensor flatten(const std::vector<models::Parameter>& parameters);
/// Gives all ranks the pieces of all ranks.
void all_gather_pieces(const at::Tensor& flat,
                       comm::Communicator& communicator);

/// Decoupled weight decay on matrices only (not on norms and biases).
class AdamW {
 public:
  /// Updates the numbers of `piece`.
  AdamW(const std::vector<models::Parameter>& parameters,
        const Gradients& gradients, const OptimizerConfig& config,
        const Range& piece);

  void step(double learning_rate);

  const Range& piece() const { return piece_; }
  /// Running means of the gradients and of their squares, of piece(): flat.
  /// Changing their numbers changes those of the optimizer.
  const at::Tensor& means() const { return means_; }
  const at::Tensor& squares() const { return squares_; }
  /// How many steps the moments are of.
  void set_steps(std::int64_t steps);

 private:
  struct Group {
    std::vector<at::Tensor> values, gradients, means, squares, steps;
    double weight_decay = 0;
  };

  OptimizerConfig config_;
  Range piece_;
  at::Tensor means_;
  at::Tensor squares_;
  std::vector<Group> groups_;
};

}  // namespace ringweave::train
