// A training step without its numbers: what its layers compute, for how long,
// and what they exchange.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "ringweave/cli/bench/exchanged.h"
#include "ringweave/config/train_config.h"
#include "ringweave/planner/cost/device_table.h"
#include "ringweave/train/gradient_sums.h"
#include "ringweave/train/parallel.h"

namespace ringweave::cli {

/// Immutable, shared by the local ranks.
class Step {
 public:
  /// Layers of a kind are alike.
  struct Kind {
    bool linear = false;
    std::int64_t window = 0;  ///< of softmax layers; 0: none
    std::shared_ptr<const Exchanged> forward;
    std::shared_ptr<const Exchanged> backward;
    double products_flop = 0;  ///< of a token's products with weights, forward
  };

  /// Exchanges take the times of `device_table` for what attention computes
  /// meanwhile. Throws InvalidArgument, which starts with `where`, for what
  /// differs from batch to batch or is not known here: documents, and gradients
  /// in another type.
  Step(config::TrainConfig config, const train::Exchanges& exchanges,
       planner::DeviceTable device_table, const char* where);

  const config::TrainConfig& config() const { return config_; }
  const std::vector<Kind>& kinds() const { return kinds_; }
  const Kind& kind(std::int64_t layer) const {
    return kinds_[layers_[static_cast<std::size_t>(layer)]];
  }
  std::int64_t layers() const { return std::ssize(layers_); }
  /// Times that each pass of a layer runs in a step: parts of the batch, and
  /// forward once more where backward recomputes blocks.
  std::int64_t runs(schedule::Pass pass) const;
  std::vector<train::Bucket> buckets() const;
  std::int64_t numbers() const;  ///< of all weights
  std::int64_t number_bytes() const;

  /// What happens, in order.
  class Actor {
   public:
    virtual ~Actor() = default;
    virtual void compute(double seconds) = 0;
    virtual void exchange(const Kind& kind, schedule::Pass pass) = 0;
    /// Gradients of the layer are ready to be summed.
    virtual void layer_done(std::int64_t layer) = 0;
  };

  /// A rank's step until its backward passes are done. `rank`: of those that
  /// split a sequence.
  void play(Rank rank, Actor& actor) const;

 private:
  void play_part(Rank rank, bool last, Actor& actor) const;

  config::TrainConfig config_;
  planner::DeviceTable device_table_;
  schedule::Layout layout_;
  std::vector<Kind> kinds_;
  std::vector<std::size_t> layers_;  ///< the kind of each
};

/// Bytes of keys, states and gradients that a rank of a Step has at a time.
double memory_bytes(const Step& step);

}  // namespace ringweave::cli
