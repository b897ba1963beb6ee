#include "ringweave/cli/bench/step_runs.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include <ATen/ATen.h>

#include "ringweave/attention/attention.h"
#include "ringweave/base/error.h"
#include "ringweave/cli/bench/exchange_runs.h"
#include "ringweave/cli/bench/transfers.h"
#include "ringweave/cli/interrupt.h"
#include "ringweave/comm/bucket_sum.h"
#include "ringweave/linear_attention/linear_attention.h"
#include "ringweave/planner/cost/loads.h"
#include "ringweave/tensor/scalar_type.h"
#include "ringweave/train/flat.h"
#include "ringweave/train/optimizer.h"
#include "ringweave/train/sequence_group.h"

namespace ringweave::cli {
namespace {

using schedule::Pass;
using train::Bucket;

/// Of one rank: what a kind of layer exchanges in a pass.
using KindPass = std::pair<const Step::Kind*, Pass>;

const Exchanged& exchanged(const Step::Kind& kind, Pass pass) {
  return pass == Pass::forward ? *kind.forward : *kind.backward;
}

/// As training calls it, so that waits are counted there.
const char* operation(const Step::Kind& kind, Pass pass) {
  const bool forward = pass == Pass::forward;
  if (kind.linear) {
    return forward ? linear_attention::kForwardPass
                   : linear_attention::kBackwardPass;
  }
  return forward ? attention::kForwardPass : attention::kBackwardPass;
}

comm::BucketSum::Result result(const config::ParallelConfig& parallel) {
  return parallel.shard_optimizer ? comm::BucketSum::Result::pieces
                                  : comm::BucketSum::Result::everywhere;
}

/// One rank's steps.
class EmulatedRank final : public Step::Actor {
 public:
  EmulatedRank(const Step& step, const config::TrainConfig& config,
               comm::Communicator& whole)
      : step_(step),
        config_(config),
        whole_(whole),
        group_(config.parallel, whole),
        buckets_(step.buckets()),
        numbers_(
            at::zeros({step.numbers()},
                      tensor::scalar_type(accumulate_type(config.compute)))) {
    for (const Step::Kind& kind : step.kinds()) {
      for (const Pass pass : {Pass::forward, Pass::backward}) {
        exchanges_.emplace(
            KindPass{&kind, pass},
            std::make_unique<Exchange>(exchanged(kind, pass),
                                       group_.communicator().rank()));
      }
    }
  }

  train::SpentByAll run() {
    whole_.barrier();
    const train::Meter meter(group_.all());
    std::vector<Range> ranges;
    for (const Bucket& bucket : buckets_) ranges.push_back(bucket.range);
    train::with_span(numbers_, [&](auto numbers) {
      sum_.emplace(numbers, ranges, result(config_.parallel), whole_);
    });
    step_.play(group_.communicator().rank(), *this);
    sum_->post(buckets_.size() - 1);
    sum_->finish();
    if (config_.parallel.shard_optimizer) {
      train::all_gather_pieces(numbers_, whole_);
    }
    train::Spent spent = meter.spent();
    spent.gradient_waiting_seconds = sum_->waiting_seconds();
    return train::gather(spent, whole_);
  }

  void compute(double seconds) override { pass_time(seconds); }
  void exchange(const Step::Kind& kind, Pass pass) override {
    exchanges_.at({&kind, pass})
        ->transfers.run(group_.communicator(), operation(kind, pass));
  }
  void layer_done(std::int64_t layer) override {
    const std::size_t next = sum_->next();
    if (next < buckets_.size() && layer == buckets_[next].layer) {
      sum_->post(next);
    }
  }

 private:
  struct Exchange {
    Exchange(const Exchanged& of, Rank rank)
        : part(of.part(rank)), transfers(part, of.unit_bytes()) {}
    Exchanged::Part part;
    Transfers transfers;
  };

  const Step& step_;
  const config::TrainConfig& config_;
  comm::Communicator& whole_;
  train::SequenceGroup group_;
  std::vector<Bucket> buckets_;
  at::Tensor numbers_;  ///< the gradients, all 0
  std::map<KindPass, std::unique_ptr<Exchange>> exchanges_;
  std::optional<comm::BucketSum> sum_;  ///< of the step
};

/// Calls `use` for each exchange of a step, and how often it is made.
template <typename Use>
void for_exchanges(const Step& step, const Use& use) {
  std::map<const Step::Kind*, std::int64_t> layers;
  for (std::int64_t layer = 0; layer < step.layers(); ++layer) {
    ++layers[&step.kind(layer)];
  }
  for (const Step::Kind& kind : step.kinds()) {
    for (const Pass pass : {Pass::forward, Pass::backward}) {
      use(exchanged(kind, pass), layers.at(&kind) * step.runs(pass));
    }
  }
}

class PredictedRank final : public Step::Actor {
 public:
  PredictedRank(const Step& step, const config::TrainConfig& config,
                const std::map<KindPass, double>& exchanges,
                const planner::Loads& loads)
      : exchanges_(exchanges),
        loads_(loads),
        // What each rank sends is summed, and sums may go to all.
        rounds_(config.parallel.shard_optimizer ? 1 : 2),
        number_bytes_(static_cast<double>(step.number_bytes())),
        buckets_(step.buckets()) {}

  double finish() {
    sum();
    return std::max(now_, sums_end_);
  }

  void compute(double seconds) override { now_ += seconds; }
  void exchange(const Step::Kind& kind, Pass pass) override {
    now_ += exchanges_.at({&kind, pass});
  }
  void layer_done(std::int64_t layer) override {
    if (next_ < buckets_.size() && layer == buckets_[next_].layer) sum();
  }

 private:
  void sum() {
    const int n = loads_.ranks();
    if (n == 1) return;
    const double piece =
        static_cast<double>(buckets_[next_++].range.size()) * number_bytes_ / n;
    sums_end_ =
        std::max(sums_end_, now_) +
        rounds_ * (loads_.latency() + loads_.pairs(n).seconds() * piece);
  }

  const std::map<KindPass, double>& exchanges_;
  const planner::Loads& loads_;
  int rounds_;
  double number_bytes_;
  std::vector<Bucket> buckets_;
  std::size_t next_ = 0;
  double now_ = 0;
  double sums_end_ = 0;
};

}  // namespace

std::vector<train::SpentByAll> run_emulated_steps(
    const Step& step, const config::TrainConfig& config, int repeat,
    comm::Communicator& communicator, const std::function<void()>& warm) {
  EmulatedRank rank(step, config, communicator);
  std::vector<train::SpentByAll> steps;
  for (int i = -1; i < repeat; ++i) {
    const train::SpentByAll spent = rank.run();
    if (i >= 0) steps.push_back(spent);
    if (i < 0) warm();
    check_interrupted();
  }
  return steps;
}

double bare_seconds(const Step& step, const config::TrainConfig& config,
                    int repeat, comm::Communicator& communicator) {
  train::SequenceGroup group(config.parallel, communicator);
  double all = 0;
  for_exchanges(step, [&](const Exchanged& of, std::int64_t times) {
    all += static_cast<double>(times) *
           bare_seconds(of, group.communicator(), communicator, repeat);
  });
  return all;
}

double bound_seconds(const Step& step, const topology::Topology& topology) {
  double all = 0;
  for_exchanges(step, [&](const Exchanged& of, std::int64_t times) {
    all += static_cast<double>(times) * of.bound(topology);
  });
  return all;
}

std::optional<double> predicted_seconds(const Step& step,
                                        const config::TrainConfig& config,
                                        const topology::Topology& topology) {
  std::map<KindPass, double> exchanges;
  for (const Step::Kind& kind : step.kinds()) {
    for (const Pass pass : {Pass::forward, Pass::backward}) {
      const auto seconds = simulated_seconds(exchanged(kind, pass), topology);
      if (!seconds) return std::nullopt;
      exchanges[{&kind, pass}] = *seconds;
    }
  }
  const planner::Network network(topology);
  const planner::Loads loads(network);
  double longest = 0;
  for (Rank rank = 0; rank < topology.ranks(); ++rank) {
    PredictedRank predicted(step, config, exchanges, loads);
    step.play(rank, predicted);
    longest = std::max(longest, predicted.finish());
  }
  return longest;
}

}  // namespace ringweave::cli
