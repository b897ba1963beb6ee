#include "ringweave/train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <span>
#include <thread>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "ringweave/base/error.h"
#include "ringweave/base/hash.h"
#include "ringweave/base/memory.h"
#include "ringweave/comm/local_ranks.h"
#include "ringweave/linear_attention/linear_attention.h"
#include "ringweave/models/model.h"
#include "ringweave/train/optimizer.h"
#include "ringweave/train/parallel.h"

namespace ringweave::train {
namespace {

/// What one rank spent, on a step or on all.
struct Spent {
  double seconds = 0;
  double waiting_seconds = 0;
  std::int64_t bytes = 0;
};

/// The same over ranks. `seconds` are the slowest rank's; the shares are of
/// these.
struct Totals {
  double seconds = 0;
  double waiting_share_mean = 0;
  double waiting_share_max = 0;
  std::int64_t bytes = 0;
};

Totals gather(const Spent& mine, comm::Communicator& communicator) {
  const auto all = communicator.all_gather(std::as_bytes(std::span(&mine, 1)));
  std::vector<Spent> ranks;
  Totals totals;
  for (const auto& bytes : all) {
    Spent spent;
    std::copy(bytes.begin(), bytes.end(),
              std::as_writable_bytes(std::span(&spent, 1)).begin());
    totals.seconds = std::max(totals.seconds, spent.seconds);
    totals.bytes += spent.bytes;
    ranks.push_back(spent);
  }
  for (const Spent& spent : ranks) {
    const double share =
        totals.seconds > 0 ? spent.waiting_seconds / totals.seconds : 0;
    totals.waiting_share_mean += share / static_cast<double>(ranks.size());
    totals.waiting_share_max = std::max(totals.waiting_share_max, share);
  }
  return totals;
}

/// Measures from its construction.
class Meter {
 public:
  explicit Meter(comm::Communicator& communicator)
      : communicator_(communicator),
        start_(comm::Clock::now()),
        waited_(communicator.traffic().waiting_seconds),
        sent_(communicator.traffic().bytes()) {}

  Spent spent() const {
    const std::chrono::duration<double> seconds = comm::Clock::now() - start_;
    const comm::Traffic& traffic = communicator_.traffic();
    return {.seconds = seconds.count(),
            .waiting_seconds = traffic.waiting_seconds - waited_,
            .bytes = traffic.bytes() - sent_};
  }

 private:
  comm::Communicator& communicator_;
  comm::Clock::time_point start_;
  double waited_;
  std::int64_t sent_;
};

models::Context make_context(const TrainConfig& config, const Exchanges& chosen,
                             comm::Communicator& communicator) {
  const models::Split split{
      .layout = schedule::Layout::named(
          config.parallel.layout, config.data.seq_len, config.parallel.ranks),
      .softmax = chosen.softmax,
      .linear = chosen.linear,
      .grad_payload_in_compute_type = config.parallel.grad_payload == "compute",
  };
  return models::make_context(config.model, config.compute, split,
                              communicator);
}

/// Bytes of weights, gradients and optimizer states of `ranks_here` ranks, and
/// of their part of a batch's activations that backward needs.
double least_memory(const TrainConfig& config, int ranks_here) {
  const double bytes = config.compute == models::Compute::float64 ? 8 : 4;
  const models::ModelConfig& model = config.model;
  const auto hidden = static_cast<double>(model.hidden);
  const auto vocab = static_cast<double>(model.vocab_size);
  const auto layers = static_cast<double>(model.layers);
  const double heads =
      2 *
      (static_cast<double>(model.heads) + static_cast<double>(model.kv_heads)) *
      static_cast<double>(model.head_dim);
  const bool gated =
      model.has_linear() && model.linear.kind == models::LinearKind::gla;
  const double gate = gated ? static_cast<double>(model.linear.gate_rank) : 0;
  const double parameters =
      hidden * (vocab + gate +
                layers * (heads + 3 * static_cast<double>(model.intermediate)));
  const double tokens = static_cast<double>(config.data.batch) *
                        static_cast<double>(config.data.seq_len) /
                        config.parallel.ranks;
  constexpr double kCopies = 4;  // weights, gradients, two moments
  return ranks_here * bytes *
         (kCopies * parameters + tokens * (vocab + layers * hidden));
}

void check_agreement(const TrainConfig& config, const Exchanges& chosen,
                     const Data& data, comm::Communicator& communicator) {
  // Where the texts lie may differ between machines, what they say may not.
  Json shared = to_json(config);
  shared["data"].erase("files");
  shared["data"].erase("validation_files");
  for (const char* file : {"topology", "device", "plan"}) {
    shared["parallel"].erase(file);
  }
  communicator.check_agreement(
      {{"version", RINGWEAVE_VERSION},
       {"config", fmt::format("{:016x}", fnv1a(shared.dump()))},
       {"data", hash(data)},
       {"exchanges", describe(chosen)},
       {"seed", fmt::format("{}", config.seed)}});
}

/// One rank's state of a run.
class Trainer {
 public:
  Trainer(const TrainConfig& config, const Exchanges& chosen, const Data& data,
          comm::Communicator& communicator)
      : config_(config),
        data_(data),
        communicator_(communicator),
        context_(make_context(config, chosen, communicator)),
        model_(config.model, config.compute, config.seed),
        gradients_(model_.parameters()),
        optimizer_(model_.parameters(), gradients_, config.optimizer) {}

  StartReport start() const {
    StartReport report;
    for (const auto& parameter : model_.parameters()) {
      report.parameters += parameter.value.numel();
    }
    report.train_tokens = static_cast<std::int64_t>(data_.train.size());
    for (std::int64_t i = 0; i < batches(); ++i) {
      const auto sequences = validation_batch(data_, config_.data, i).size(0);
      report.validation_tokens += sequences * config_.data.seq_len;
    }
    return report;
  }

  /// Runs step `step`, from 1.
  StepReport step(std::int64_t step, Spent& all_steps) {
    const Meter meter(communicator_);
    StepReport report;
    report.step = step;
    report.learning_rate =
        learning_rate(config_.optimizer, step, config_.steps);
    const at::Tensor loss =
        own_loss(training_batch(data_, config_.data, config_.seed, step - 1));
    gradients_.zero();
    loss.backward();
    gradients_.all_reduce(communicator_);
    report.loss = summed(loss);
    report.grad_norm = gradients_.clip(config_.optimizer.clip_norm);
    check_finite(report);
    optimizer_.step(report.learning_rate);

    const Spent spent = meter.spent();
    all_steps.seconds += spent.seconds;
    all_steps.waiting_seconds += spent.waiting_seconds;
    all_steps.bytes += spent.bytes;
    const Totals totals = gather(spent, communicator_);
    report.seconds = totals.seconds;
    report.tokens_per_second =
        static_cast<double>(config_.data.batch * config_.data.seq_len) /
        totals.seconds;
    report.waiting_share_mean = totals.waiting_share_mean;
    report.waiting_share_max = totals.waiting_share_max;
    report.bytes_sent = totals.bytes;
    return report;
  }

  ValidationReport validate(std::int64_t step) const {
    const at::NoGradGuard no_gradients;
    ValidationReport report;
    report.step = step;
    double sum = 0;
    for (std::int64_t i = 0; i < batches(); ++i) {
      const at::Tensor batch = validation_batch(data_, config_.data, i);
      const std::int64_t tokens = batch.size(0) * config_.data.seq_len;
      sum += own_loss(batch).item<double>() * static_cast<double>(tokens);
      report.tokens += tokens;
    }
    communicator_.all_reduce_sum(std::span(&sum, 1));
    report.loss = sum / static_cast<double>(report.tokens);
    return report;
  }

  /// Batches that one validation goes through.
  std::int64_t batches() const {
    const std::int64_t all = validation_batches(data_, config_.data);
    const std::int64_t limit = config_.validation.batches;
    return limit == 0 ? all : std::min(all, limit);
  }

 private:
  at::Tensor own_loss(const at::Tensor& sequences) const {
    const models::Shard shard = models::shard_sequences(sequences, context_);
    return models::loss(model_.forward(shard.tokens, context_), shard.labels,
                        sequences.size(0) * config_.data.seq_len);
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

  double summed(const at::Tensor& loss) const {
    double sum = loss.item<double>();
    communicator_.all_reduce_sum(std::span(&sum, 1));
    return sum;
  }

  const TrainConfig& config_;
  const Data& data_;
  comm::Communicator& communicator_;
  models::Context context_;
  models::Model model_;
  Gradients gradients_;
  AdamW optimizer_;
};

}  // namespace

TrainReport run(const TrainConfig& config, const Exchanges& chosen,
                const Data& data, comm::Communicator& communicator,
                const Callbacks& callbacks) {
  check(config);
  require(communicator.size() == config.parallel.ranks,
          "[train] got {} ranks running and parallel.ranks {}; want as many",
          communicator.size(), config.parallel.ranks);
  check_agreement(config, chosen, data, communicator);
  // A new thread learns torch's number of threads at its first parallel op;
  // until then MKL would run each matrix product with a team of its own.
  static_cast<void>(at::get_num_threads());
  Trainer trainer(config, chosen, data, communicator);
  TrainReport report;
  report.start = trainer.start();
  if (callbacks.start) callbacks.start(report.start);

  const auto validate = [&](std::int64_t step) {
    const ValidationReport validation = trainer.validate(step);
    report.validation_loss = validation.loss;
    if (callbacks.validation) callbacks.validation(validation);
  };
  Spent spent;
  for (std::int64_t step = 1; step <= config.steps; ++step) {
    const StepReport done = trainer.step(step, spent);
    if (step == 1) report.first_loss = done.loss;
    report.last_loss = done.loss;
    report.steps = step;
    report.seconds += done.seconds;
    report.bytes_sent += done.bytes_sent;
    if (callbacks.step) callbacks.step(done);
    const bool due = config.validation.every > 0 && step < config.steps &&
                     step % config.validation.every == 0;
    if (due && trainer.batches() > 0) validate(step);
  }
  if (trainer.batches() > 0) validate(config.steps);

  const Totals totals = gather(spent, communicator);
  report.waiting_share_mean = totals.waiting_share_mean;
  report.waiting_share_max = totals.waiting_share_max;
  if (report.seconds > 0) {
    report.tokens_per_second =
        static_cast<double>(config.steps) *
        static_cast<double>(config.data.batch * config.data.seq_len) /
        report.seconds;
  }
  return report;
}

TrainReport run_local(const TrainConfig& config, const Exchanges& chosen,
                      const Data& data, const Callbacks& callbacks) {
  check(config);
  set_threads(config, config.parallel.ranks);
  check_memory(config, config.parallel.ranks);
  TrainReport report;
  comm::run_ranks(config.parallel.ranks,
                  [&](Rank rank, std::shared_ptr<comm::Transport> transport) {
                    comm::Communicator communicator(std::move(transport),
                                                    time_outs(config));
                    const TrainReport mine =
                        run(config, chosen, data, communicator,
                            rank == 0 ? callbacks : Callbacks{});
                    if (rank == 0) report = mine;
                  });
  return report;
}

void check_memory(const TrainConfig& config, int ranks_here) {
  require_memory(least_memory(config, ranks_here),
                 "[train] got a model with batches");
}

void set_threads(const TrainConfig& config, int ranks_here) {
  const int cores =
      std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  at::set_num_threads(config.threads > 0 ? config.threads
                                         : std::max(1, cores / ranks_here));
}

}  // namespace ringweave::train
