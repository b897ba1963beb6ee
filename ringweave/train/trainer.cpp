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
#include "ringweave/base/memory.h"
#include "ringweave/linear_attention/linear_attention.h"
#include "ringweave/models/model.h"
#include "ringweave/tensor/out_of_memory.h"
#include "ringweave/tensor/threads.h"
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

/// Every rank's, in rank order. As CBOR, which machines of every byte order
/// read alike.
std::vector<Spent> all_gather(const Spent& mine,
                              comm::Communicator& communicator) {
  const std::vector<std::uint8_t> bytes =
      Json::to_cbor({mine.seconds, mine.waiting_seconds, mine.bytes});
  std::vector<Spent> ranks;
  for (const auto& theirs :
       communicator.all_gather(std::as_bytes(std::span(bytes)))) {
    const auto* data = reinterpret_cast<const std::uint8_t*>(theirs.data());
    const Json spent = Json::from_cbor(data, data + theirs.size());
    ranks.push_back({.seconds = spent[0].get<double>(),
                     .waiting_seconds = spent[1].get<double>(),
                     .bytes = spent[2].get<std::int64_t>()});
  }
  return ranks;
}

Totals gather(const Spent& mine, comm::Communicator& communicator) {
  const std::vector<Spent> ranks = all_gather(mine, communicator);
  Totals totals;
  for (const Spent& spent : ranks) {
    totals.seconds = std::max(totals.seconds, spent.seconds);
    totals.bytes += spent.bytes;
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
  const config::ModelConfig& model = config.model;
  const auto bytes =
      static_cast<double>(element_bytes(accumulate_type(config.compute)));
  const double tokens = static_cast<double>(config.data.batch) *
                        static_cast<double>(config.data.seq_len) /
                        config.parallel.ranks;
  const double activations =
      static_cast<double>(model.vocab_size) +
      static_cast<double>(model.layers) * static_cast<double>(model.hidden);
  constexpr double kCopies = 4;  // weights, gradients, two moments
  return ranks_here * bytes *
         (kCopies * config::weight_count(model) + tokens * activations);
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

/// Processes of a launcher may share this machine; how many do is not known
/// here, so 0 threads means an equal share among all ranks.
void set_threads(const TrainConfig& config) {
  const int cores =
      std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  at::set_num_threads(config.threads > 0
                          ? config.threads
                          : std::max(1, cores / config.parallel.ranks));
}

}  // namespace

std::map<std::string, std::string> facts(const TrainConfig& config,
                                         const Exchanges& chosen,
                                         const Data& data) {
  Json shared = to_json(config);
  shared["data"].erase("files");
  shared["data"].erase("validation_files");
  for (const char* file : {"topology", "device", "plan"}) {
    shared["parallel"].erase(file);
  }
  std::map<std::string, std::string> facts = {{"version", RINGWEAVE_VERSION},
                                              {"data", hash(data)},
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
                const Data& data, comm::Communicator& communicator,
                const Callbacks& callbacks) {
  check_run(config);
  require(communicator.size() == config.parallel.ranks,
          "[train] got {} ranks running and parallel.ranks {}; want as many",
          communicator.size(), config.parallel.ranks);
  tensor::take_over_thread_count();
  communicator.set_before_call(callbacks.layer);
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

TrainReport run_on(const comm::Engine& engine, const TrainConfig& config,
                   const Exchanges& chosen, const Data& data,
                   const Callbacks& callbacks) {
  check_run(config);
  const int ranks = config.parallel.ranks;
  set_threads(config);
  check_memory(config, engine.ranks_here(ranks));
  TrainReport report;
  engine.run(ranks, time_outs(config), [&](comm::Communicator& communicator) {
    const bool first = communicator.rank() == engine.rank();
    try {
      const TrainReport mine =
          run(config, chosen, data, communicator,
              first ? callbacks : Callbacks{.layer = callbacks.layer});
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
