// Trains a model with its sequences split over ranks.
//
//   const auto config = config::read_config("configs/quickstart.json");
//   const auto dataset =
//       data::open_dataset(config.data, config.model.vocab_size);
//   const Exchanges chosen = exchanges(config);
//   const comm::Engine engine;  // ranks are threads
//   const TrainReport report =
//       run_on(engine, config, chosen, dataset, callbacks);
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "ringweave/comm/communicator.h"
#include "ringweave/comm/engine.h"
#include "ringweave/config/train_config.h"
#include "ringweave/train/batches.h"
#include "ringweave/train/checkpoints.h"
#include "ringweave/train/parallel.h"
#include "ringweave/train/spent.h"
#include "ringweave/weights/initial_weights.h"

namespace ringweave::train {

/// Reported once, before the first step.
struct StartReport {
  std::int64_t parameters = 0;  ///< numbers in the model
  std::int64_t train_tokens = 0;
  std::int64_t validation_tokens = 0;  ///< that one validation goes through
};

struct StepReport {
  std::int64_t step = 0;  ///< from 1 to config.steps
  double loss = 0;  ///< mean over the global batch's labels, before the update
  double learning_rate = 0;
  double grad_norm = 0;  ///< before clipping
  double tokens_per_second = 0;
  SpentByAll spent;  ///< stop: what Callbacks::stop said
};

struct ValidationReport {
  std::int64_t step = 0;    ///< steps done before it
  double loss = 0;          ///< exact mean over `tokens`
  std::int64_t tokens = 0;  ///< labels
};

struct CheckpointReport {
  std::int64_t step = 0;  ///< steps done before it
  double seconds = 0;  ///< that this rank took to write it, all waits with it
};

/// Called on the rank's own thread, between steps; what they throw ends the
/// run. Empty ones are skipped. All ranks have equal figures, so that one
/// rank's callbacks are enough.
struct Callbacks {
  /// Before each layer's forward and backward, on all ranks of the process.
  std::function<void()> layer{};
  /// After each step, on all ranks of the process: not 0 ends the run after
  /// this step on all ranks of all processes, with a checkpoint.
  std::function<int()> stop{};
  std::function<void(const StartReport&)> start{};
  std::function<void(const StepReport&)> step{};
  std::function<void(const ValidationReport&)> validation{};
  std::function<void(const CheckpointReport&)> checkpoint{};
};

struct TrainReport {
  StartReport start;
  std::int64_t steps = 0;            ///< of this call, not before a checkpoint
  std::optional<double> first_loss;  ///< of these; absent after 0 steps
  std::optional<double> last_loss;
  std::optional<double> validation_loss;  ///< the last one
  double tokens_per_second = 0;
  SpentByAll spent;  ///< on all steps, not on validation
};

/// What must be equal on all ranks, for comm::Communicator::check_agreement():
/// version, config, exchanges, data and seed. Where the files of the config lie
/// may differ. `data`: Dataset::hash().
std::map<std::string, std::string> facts(const TrainConfig& config,
                                         const Exchanges& chosen,
                                         const std::string& data);

comm::TimeOuts time_outs(const TrainConfig& config);

/// Trains as one rank of the communicator, whose size must be
/// config.parallel.ranks, with what exchanges(config) gave. Every member must
/// call it, after they have compared their facts(). Throws InvalidArgument if
/// the config can't be used, CommError if a peer fails or does not answer in
/// time, Error after a step whose loss or gradient norm is not finite, which
/// changes no parameter.
/// With `initial` the run begins with those weights, unless it goes on.
/// Losses on n ranks and on one agree to rounding. With a folder in `saving` it
/// writes checkpoints as config.checkpoint says, and one at the end; after
/// `saving.resume`, which must be at most config.steps, it does what an
/// undisturbed run does, on the same ranks with the same bits. Throws as
/// Checkpoints, too.
TrainReport run(const TrainConfig& config, const Exchanges& chosen,
                const Dataset& dataset, comm::Communicator& communicator,
                const Callbacks& callbacks = {}, const Saving& saving = {},
                const weights::InitialWeights* initial = nullptr);

/// Throws InvalidArgument if `ranks_here` ranks can't train in this machine's
/// memory, by a lower bound of what they take (require_memory).
void check_memory(const TrainConfig& config, int ranks_here);

/// Runs the ranks of this process, with callbacks and the report of
/// engine.rank(). First it sets torch's threads per operation, for the whole
/// process: config.threads, or else cores / ranks, at least 1.
TrainReport run_on(const comm::Engine& engine, const TrainConfig& config,
                   const Exchanges& chosen, const Dataset& dataset,
                   const Callbacks& callbacks = {}, const Saving& saving = {},
                   const weights::InitialWeights* initial = nullptr);

}  // namespace ringweave::train
