// How a run's keys, values and states travel: by name, by a plan file, or as
// the planner picks at start.
#pragma once

#include "ringweave/config/train_config.h"
#include "ringweave/planner/cost/model_shape.h"
#include "ringweave/schedule/exchange/state_exchange.h"
#include "ringweave/schedule/strategy/strategy.h"

namespace ringweave::train {

using config::ParallelConfig;
using config::TrainConfig;

/// The name of a strategy or an exchange that the planner picks.
inline constexpr const char* kAuto = "auto";

struct Exchanges {
  schedule::Strategy softmax;
  schedule::StateExchangePtr linear;
};

/// Reads the plan file, or plans: to be called once for a run. Depends on the
/// config and the files it names only, so all ranks agree if these are equal;
/// describe() is for making sure. Throws InvalidArgument for names, files and
/// plans that can't be used or were made for something else, and as
/// planner::make_plan().
Exchanges exchanges(const TrainConfig& config);

/// To be called when files and flags have been read, before the files that the
/// config names are. Throws as config::check(), and as exchanges() for what can
/// be told of it without files and plans.
void check_run(const TrainConfig& config);

/// Both in full, to be compared over ranks.
std::string describe(const Exchanges& exchanges);

/// The numbers of the model that the planner needs.
planner::ModelShape model_shape(const TrainConfig& config);

}  // namespace ringweave::train
