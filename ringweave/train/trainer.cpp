#include "ringweave/train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <span>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "ringweave/base/error.h"
#include "ringweave/base/memory.h"
#include "ringweave/linear_attention/linear_attention.h"
#include "ringweave/models/model.h"
#include "ringweave/tensor/out_of_memory.h"
#include "ringweave/tensor/threads.h"
#include "ringweave/train/gradient_sums.h"
#include "ringweave/train/masking.h"
#include "ringweave/train/optimizer.h"
#include "ringweave/train/parallel.h"
#include "ringweave/train/sequence_group.h"
#include "ringweave/train/spent.h"

namespace ringweave::train {
namespace {

models::Recompute recompute(const ParallelConfig& parallel) {
  if (parallel.recompute == "block") return models::Recompute::block;
  return parallel.recompute == "mlp" ? models::Recompute::mlp
                                     : models::Recompute::none;
}

models::Context make_context(const TrainConfig& config, const Exchanges& chosen,
                             comm::Communicator& communicator) {
  const models::Split split{
      .layout = schedule::Layout::named(
          config.parallel.layout, config.data.seq_len, communicator.size()),
      .softmax = chosen.softmax,
      .linear = chosen.linear,
      .grad_payload_in_compute_type = config.parallel.grad_payload == "compute",
      .recompute = recompute(config.parallel),
  };
  return models::make_context(config.model, config.compute, split,
                              communicator);
}

/// Bytes of weights, gradients and optimizer states of `ranks_here` ranks, and
/// of their part of a batch's activations that backward needs.
double least_memory(const TrainConfig& config, int ranks_here) {
  const config::ModelConfig& model = config.model;
  const auto bytes =
      static_cast<double>(element_bytes(accumulate_type(config.compute)));
  const ParallelConfig& parallel = config.parallel;
  const double tokens =
      static_cast<double>(config::sequences_at_a_time(config)) *
      static_cast<double>(config.data.seq_len) / parallel.sequence_ranks();
  const double activations =
      static_cast<double>(model.vocab_size) +
      static_cast<double>(model.layers) * static_cast<double>(model.hidden);
  constexpr double kMoments = 2;
  const double copies =
      2 + (parallel.shard_optimizer ? kMoments / parallel.ranks : kMoments);
  return ranks_here * bytes *
         (copies * config::weight_count(model) + tokens * activations);
}

/// One rank's state of a run.
class Trainer {
 public:
  /// `layer`: Callbacks::layer.
  Trainer(const TrainConfig& config, const Exchanges& chosen,
          const Dataset& dataset, comm::Communicator& communicator,
          std::function<void()> layer)
      : config_(config),
        dataset_(dataset),
        communicator_(communicator),
        group_(config.parallel, communicator),
        context_(make_context(config, chosen, group_.communicator())),
        model_(config.model, config.compute, config.seed),
        weights_(config.parallel.shard_optimizer ? flatten(model_.parameters())
                                                 : at::Tensor()),
        gradients_(model_.parameters()),
        sums_(gradients_.flat(),
              gradient_buckets(model_, config.parallel.bucket_bytes),
              config.parallel.shard_optimizer, communicator),
        optimizer_(model_.parameters(), gradients_, config.optimizer,
                   updated_here()) {
    group_.communicator().set_before_call(layer);
  }

  StartReport start() const {
    StartReport report;
    report.parameters = count(model_.parameters());
    report.train_tokens = dataset_.train.tokens();
    for (std::int64_t i = 0; i < batches(); ++i) {
      const auto indices = validation_indices(dataset_, config_, i);
      report.validation_tokens +=
          static_cast<std::int64_t>(indices.size()) * config_.data.seq_len;
    }
    return report;
  }

  /// Runs step `step`, from 1. `stop`: Callbacks::stop, or empty.
  StepReport step(std::int64_t step, const std::function<int()>& stop,
                  Spent& all_steps) {
    const Meter step_meter = meter();
    StepReport report;
    report.step = step;
    report.learning_rate =
        learning_rate(config_.optimizer, step, config_.steps);
    gradients_.zero();
    const Rows rows = training_rows(step);
    const std::int64_t labels = count_labels(rows);
    for_own_parts(rows, [&](Part& part) {
      if (part.last) {
        sums_.start();
        part.context.layer_done = [this](std::int64_t layer) {
          sums_.layer_done(layer);
        };
      }
      const at::Tensor loss = own_loss(part, labels);
      loss.backward();
      report.loss += loss.item<double>();
    });
    const Range summed = sums_.finish();
    communicator_.all_reduce_sum(std::span(&report.loss, 1));
    report.grad_norm = weights_.defined()
                           ? gradients_.norm(summed, communicator_)
                           : gradients_.norm();
    check_finite(report);
    const Meter update_meter = meter();
    update(report);
    const Spent updating = update_meter.spent();

    Spent spent = step_meter.spent();
    // With the step's figures, so that all ranks stop after the same step.
    spent.stop = stop ? stop() : 0;
    spent.gradient_waiting_seconds = sums_.waiting_seconds();
    spent.optimizer_seconds = updating.seconds - updating.waiting_seconds;
    all_steps += spent;
    report.spent = gather(spent, communicator_);
    report.tokens_per_second =
        static_cast<double>(config_.data.batch * config_.data.seq_len) /
        report.spent.seconds;
    return report;
  }

  void begin(const weights::InitialWeights& initial) {
    initial.copy_to(model_, communicator_);
  }
  void load(std::int64_t step, Checkpoints& checkpoints) {
    checkpoints.load(step, model_, optimizer_);
  }
  void save(std::int64_t step, Checkpoints& checkpoints) const {
    checkpoints.save(step, model_, optimizer_);
  }

  ValidationReport validate(std::int64_t step) const {
    const at::NoGradGuard no_gradients;
    ValidationReport report;
    report.step = step;
    double sum = 0;
    for (std::int64_t i = 0; i < batches(); ++i) {
      const Rows rows = validation_rows(i);
      for_own_parts(rows, [&](const Part& part) {
        sum += own_loss(part, 1).item<double>();
      });
      report.tokens += count_labels(rows);
    }
    communicator_.all_reduce_sum(std::span(&sum, 1));
    report.loss =
        sum / static_cast<double>(std::max<std::int64_t>(1, report.tokens));
    return report;
  }

  /// Batches that one validation goes through.
  std::int64_t batches() const {
    const std::int64_t all = validation_batches(dataset_, config_);
    const std::int64_t limit = config_.validation.batches;
    return limit == 0 ? all : std::min(all, limit);
  }

  Meter meter() { return Meter(group_.all()); }

 private:
  /// The numbers of the model that this rank updates.
  Range updated_here() const {
    const Range all = {0, gradients_.flat().numel()};
    return weights_.defined()
               ? cut(all, communicator_.rank(), communicator_.size())
               : all;
  }

  /// Sequences of a batch.
  struct Rows {
    const data::Sequences& sequences;
    std::vector<std::int64_t> indices;
    std::int64_t first;  ///< number of the first among all that are read so
    Masking::Use use;
  };

  Rows training_rows(std::int64_t step) const {
    return {dataset_.train, training_indices(dataset_, config_, step - 1),
            (step - 1) * config_.data.batch, Masking::Use::training};
  }
  Rows validation_rows(std::int64_t batch) const {
    return {dataset_.validation, validation_indices(dataset_, config_, batch),
            batch * config_.data.batch, Masking::Use::validation};
  }

  std::int64_t count_labels(const Rows& rows) const {
    if (config_.model.causal) {
      return train::count_labels(rows.sequences, rows.indices);
    }
    return Masking(config_, rows.use)
        .count(rows.first, static_cast<std::int64_t>(rows.indices.size()));
  }

  /// What goes through the model at a time. Lives until its backward is done,
  /// which may use the context.
  struct Part {
    models::Shard shard;
    models::Context context;
    bool last;  ///< of the step
  };

  /// Calls `use` for the parts of the sequences that this rank's group takes,
  /// one after the other. Ranks of a group get the same.
  template <typename Use>
  void for_own_parts(const Rows& rows, const Use& use) const {
    const ParallelConfig& parallel = config_.parallel;
    const Range own = cut({0, static_cast<std::int64_t>(rows.indices.size())},
                          group_.index(), parallel.data);
    for (int i = 0; i < parallel.accumulation; ++i) {
      const Range range = cut(own, i, parallel.accumulation);
      if (range.empty()) continue;
      const Batch batch = read_batch(
          rows.sequences, std::span(rows.indices)
                              .subspan(static_cast<std::size_t>(range.begin),
                                       static_cast<std::size_t>(range.size())));
      Part part{.shard = {},
                .context = batch.borders.empty() ? context_
                                                 : models::with_documents(
                                                       context_, batch.borders),
                .last = i + 1 == parallel.accumulation};
      part.shard = shard(batch.sequences, rows.use, rows.first + range.begin,
                         part.context);
      use(part);
    }
  }

  /// `first`: the number of the first sequence.
  models::Shard shard(const at::Tensor& sequences, Masking::Use use,
                      std::int64_t first,
                      const models::Context& context) const {
    if (config_.model.causal) {
      return models::shard_sequences(sequences, context);
    }
    const auto masked = Masking(config_, use).apply(sequences, first);
    return models::shard_labelled(masked.tokens, masked.labels, context);
  }

  /// Of this rank's labels, divided by `labels`.
  at::Tensor own_loss(const Part& part, std::int64_t labels) const {
    return models::loss(model_.forward(part.shard.tokens, part.context),
                        part.shard.labels, labels);
  }

  void update(const StepReport& report) {
    gradients_.clip(report.grad_norm, config_.optimizer.clip_norm,
                    optimizer_.piece());
    optimizer_.step(report.learning_rate);
    if (weights_.defined()) all_gather_pieces(weights_, communicator_);
  }

  /// Alike on all ranks, since both figures are.
  static void check_finite(const StepReport& report) {
    if (std::isfinite(report.loss) && std::isfinite(report.grad_norm)) return;
    throw Error(fmt::format(
        "[train] got a loss of {} and a gradient norm of {} in step {}, with a "
        "learning rate of {}; want finite numbers: lower "
        "optimizer.learning_rate may help",
        report.loss, report.grad_norm, report.step, report.learning_rate));
  }

  const TrainConfig& config_;
  const Dataset& dataset_;
  comm::Communicator& communicator_;
  SequenceGroup group_;
  models::Context context_;
  models::Model model_;
  at::Tensor weights_;  ///< flat if each rank updates a piece, else undefined
  Gradients gradients_;
  GradientSums sums_;
  AdamW optimizer_;
};

}  // namespace

std::map<std::string, std::string> facts(const TrainConfig& config,
                                         const Exchanges& chosen,
                                         const std::string& data) {
  Json shared = to_json(config);
  shared["init"].erase("from");  // the weights are compared when they are read
  shared["data"].erase("files");
  shared["data"].erase("validation_files");
  for (const char* file : {"topology", "device_table", "plan"}) {
    shared["parallel"].erase(file);
  }
  std::map<std::string, std::string> facts = {{"version", RINGWEAVE_VERSION},
                                              {"data", data},
                                              {"exchanges", describe(chosen)}};
  // By field, so that the one that differs is named.
  const Json fields = shared.flatten();
  for (const auto& [pointer, value] : fields.items()) {
    std::string field = "config" + pointer;
    std::ranges::replace(field, '/', '.');
    facts.emplace(std::move(field), comm::abridged(value.dump()));
  }
  return facts;
}

comm::TimeOuts time_outs(const TrainConfig& config) {
  const auto milliseconds = [](double seconds) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::duration<double>(seconds));
  };
  return {.start = milliseconds(config.time_outs.start_seconds),
          .step = milliseconds(config.time_outs.step_seconds)};
}

TrainReport run(const TrainConfig& config, const Exchanges& chosen,
                const Dataset& dataset, comm::Communicator& communicator,
                const Callbacks& callbacks, const Saving& saving,
                const weights::InitialWeights* initial) {
  check_run(config);
  require(communicator.size() == config.parallel.ranks,
          "[train] got {} ranks running and parallel.ranks {}; want as many",
          communicator.size(), config.parallel.ranks);
  tensor::take_over_thread_count();
  Trainer trainer(config, chosen, dataset, communicator, callbacks.layer);
  TrainReport report;
  if (initial && !saving.resume) trainer.begin(*initial);
  report.start = trainer.start();
  if (callbacks.start) callbacks.start(report.start);

  const auto validate = [&](std::int64_t step) {
    const ValidationReport validation = trainer.validate(step);
    report.validation_loss = validation.loss;
    if (callbacks.validation) callbacks.validation(validation);
  };
  std::optional<Checkpoints> checkpoints;
  if (!saving.run.empty()) {
    checkpoints.emplace(config, saving, communicator);
    if (saving.resume) trainer.load(*saving.resume, *checkpoints);
  }
  const std::int64_t done_before = saving.resume.value_or(0);
  const auto due = [](std::int64_t every, std::int64_t step) {
    return every > 0 && step % every == 0;
  };
  const auto save = [&](std::int64_t step) {
    const Meter meter = trainer.meter();
    trainer.save(step, *checkpoints);
    if (callbacks.checkpoint) {
      callbacks.checkpoint({.step = step, .seconds = meter.spent().seconds});
    }
  };
  Spent spent;
  for (std::int64_t step = done_before + 1;
       step <= config.steps && report.spent.stop == 0; ++step) {
    const StepReport done = trainer.step(step, callbacks.stop, spent);
    if (report.steps == 0) report.first_loss = done.loss;
    report.last_loss = done.loss;
    ++report.steps;
    report.spent.stop = done.spent.stop;
    if (callbacks.step) callbacks.step(done);
    const bool last = step == config.steps;
    // A checkpoint follows the validation of its step, so that who goes on from
    // there validates no step twice.
    if (trainer.batches() > 0 && (last || due(config.validation.every, step))) {
      validate(step);
    }
    if (checkpoints && (last || report.spent.stop != 0 ||
                        due(config.checkpoint.every_steps, step))) {
      save(step);
    }
  }
  if (config.steps == 0) {
    if (trainer.batches() > 0) validate(0);
    if (checkpoints && !saving.resume) save(0);
  }

  report.spent = gather(spent, communicator);
  if (report.steps > 0) {
    report.tokens_per_second =
        static_cast<double>(report.steps) *
        static_cast<double>(config.data.batch * config.data.seq_len) /
        report.spent.seconds;
  }
  return report;
}

TrainReport run_on(const comm::Engine& engine, const TrainConfig& config,
                   const Exchanges& chosen, const Dataset& dataset,
                   const Callbacks& callbacks, const Saving& saving,
                   const weights::InitialWeights* initial) {
  check_run(config);
  check_mask_token(config, dataset);
  const int ranks = config.parallel.ranks;
  tensor::set_threads(config.threads, ranks);
  check_memory(config, engine.ranks_here(ranks));
  TrainReport report;
  engine.run(ranks, time_outs(config), [&](comm::Communicator& communicator) {
    const bool first = communicator.rank() == engine.rank();
    try {
      const TrainReport mine = run(
          config, chosen, dataset, communicator,
          first ? callbacks
                : Callbacks{.layer = callbacks.layer, .stop = callbacks.stop},
          saving, initial);
      if (first) report = mine;
    } catch (const std::exception& error) {
      if (!tensor::is_out_of_memory(error)) throw;
      throw Error(fmt::format(
          "[train] rank {}: out of memory; want a smaller data.batch, "
          "data.seq_len or model.hidden, or more machines",
          communicator.rank()));
    }
  });
  return report;
}

void check_memory(const TrainConfig& config, int ranks_here) {
  require_memory(least_memory(config, ranks_here),
                 "[train] got a model with batches");
}

}  // namespace ringweave::train
