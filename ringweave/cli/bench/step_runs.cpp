#include "ringweave/cli/bench/step_runs.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include <ATen/ATen.h>

#include "ringweave/attention/attention.h"
#include "ringweave/base/error.h"
#include "ringweave/cli/bench/exchange_runs.h"
#include "ringweave/cli/bench/transfers.h"
#include "ringweave/cli/interrupt.h"
#include "ringweave/linear_attention/linear_attention.h"
#include "ringweave/planner/cost/loads.h"
#include "ringweave/tensor/scalar_type.h"
#include "ringweave/train/gradient_sums.h"
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

/// Calls use(kind, pass) for each that a step has.
template <typename Use>
void for_passes(const Step& step, const Use& use) {
  for (const Step::Kind& kind : step.kinds()) {
    for (const Pass pass : {Pass::forward, Pass::backward}) use(kind, pass);
  }
}

/// Over a step's exchanges, each as often as it is made.
template <typename Seconds>
double sum_of_exchanges(const Step& step, const Seconds& seconds) {
  std::map<const Step::Kind*, std::int64_t> layers;
  for (std::int64_t layer = 0; layer < step.layers(); ++layer) {
    ++layers[&step.kind(layer)];
  }
  double sum = 0;
  for_passes(step, [&](const Step::Kind& kind, Pass pass) {
    sum += static_cast<double>(layers.at(&kind) * step.runs(pass)) *
           seconds(exchanged(kind, pass));
  });
  return sum;
}

/// One rank's steps.
class EmulatedRank final : public Step::Actor {
 public:
  EmulatedRank(const Step& step, comm::Communicator& whole)
      : step_(step),
        whole_(whole),
        group_(step.config().parallel, whole),
        numbers_(at::zeros(
            {step.numbers()},
            tensor::scalar_type(accumulate_type(step.config().compute)))),
        sums_(numbers_, step.buckets(), sharded(), whole) {
    for_passes(step, [&](const Step::Kind& kind, Pass pass) {
      exchanges_.emplace(
          KindPass{&kind, pass},
          std::make_unique<Exchange>(exchanged(kind, pass),
                                     group_.communicator().rank()));
    });
  }

  train::SpentByAll run() {
    whole_.barrier();
    const train::Meter meter(group_.all());
    sums_.start();
    step_.play(group_.communicator().rank(), *this);
    sums_.finish();
    if (sharded()) train::all_gather_pieces(numbers_, whole_);
    train::Spent spent = meter.spent();
    spent.gradient_waiting_seconds = sums_.waiting_seconds();
    return train::gather(spent, whole_);
  }

  void compute(double seconds) override { pass_time(seconds); }
  void exchange(const Step::Kind& kind, Pass pass) override {
    exchanges_.at({&kind, pass})
        ->transfers.run(group_.communicator(), operation(kind, pass));
  }
  void layer_done(std::int64_t layer) override { sums_.layer_done(layer); }

 private:
  struct Exchange {
    Exchange(const Exchanged& of, Rank rank)
        : part(of.part(rank)), transfers(part, of.unit_bytes()) {}
    Exchanged::Part part;
    Transfers transfers;
  };

  bool sharded() const { return step_.config().parallel.shard_optimizer; }

  const Step& step_;
  comm::Communicator& whole_;
  train::SequenceGroup group_;
  at::Tensor numbers_;  ///< the gradients, all 0
  train::GradientSums sums_;
  std::map<KindPass, std::unique_ptr<Exchange>> exchanges_;
};

class PredictedRank final : public Step::Actor {
 public:
  PredictedRank(const Step& step, const std::map<KindPass, double>& exchanges,
                const planner::Loads& loads)
      : exchanges_(exchanges),
        loads_(loads),
        // What each rank sends is summed, and sums may go to all.
        rounds_(step.config().parallel.shard_optimizer ? 1 : 2),
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
    const Step& step, int repeat, comm::Communicator& communicator,
    const std::function<void()>& warm) {
  EmulatedRank rank(step, communicator);
  rank.run();
  warm();
  std::vector<train::SpentByAll> steps;
  for (int i = 0; i < repeat; ++i) {
    check_interrupted();
    steps.push_back(rank.run());
  }
  return steps;
}

double bare_seconds(const Step& step, int repeat,
                    comm::Communicator& communicator) {
  train::SequenceGroup group(step.config().parallel, communicator);
  return sum_of_exchanges(step, [&](const Exchanged& of) {
    return bare_seconds(of, group.communicator(), communicator, repeat);
  });
}

double bound_seconds(const Step& step, const topology::Topology& topology) {
  return sum_of_exchanges(
      step, [&](const Exchanged& of) { return of.bound(topology); });
}

std::optional<double> predicted_seconds(const Step& step,
                                        const topology::Topology& topology) {
  std::map<KindPass, double> exchanges;
  bool all = true;
  for_passes(step, [&](const Step::Kind& kind, Pass pass) {
    const auto seconds = simulated_seconds(exchanged(kind, pass), topology);
    all = all && seconds;
    if (seconds) exchanges[{&kind, pass}] = *seconds;
  });
  if (!all) return std::nullopt;
  const planner::Network network(topology);
  const planner::Loads loads(network);
  double longest = 0;
  for (Rank rank = 0; rank < topology.ranks(); ++rank) {
    PredictedRank predicted(step, exchanges, loads);
    step.play(rank, predicted);
    longest = std::max(longest, predicted.finish());
  }
  return longest;
}

}  // namespace ringweave::cli
