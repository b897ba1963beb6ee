// How a run's keys, values and states travel: by name, by a plan file, or as
// the planner picks at start.
#pragma once

#include "ringweave/linear_attention/linear_attention.h"
#include "ringweave/planner/cost/model_shape.h"
#include "ringweave/schedule/strategy/strategy.h"
#include "ringweave/train/config.h"

namespace ringweave::train {

struct Exchanges {
  schedule::Strategy softmax;
  linear_attention::Transport linear;
};

/// Reads the plan file, or plans: to be called once for a run. Depends on the
/// config and the files it names only, so all ranks agree if these are equal;
/// describe() is for making sure. Throws InvalidArgument for names, files and
/// plans that can't be used or were made for something else, and as
/// planner::make_plan().
Exchanges exchanges(const TrainConfig& config);

/// What can be told of the fields without files and plans; throws as
/// exchanges(). check(config) calls it.
void check_exchanges(const TrainConfig& config);

/// Both in full, to be compared over ranks.
std::string describe(const Exchanges& exchanges);

/// What the planner has to know of the model.
planner::ModelShape model_shape(const TrainConfig& config);

}  // namespace ringweave::train
