// Sums of the gradients over ranks, which travel while backward still runs.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/base/range.h"
#include "ringweave/comm/bucket_sum.h"
#include "ringweave/comm/communicator.h"
#include "ringweave/models/model.h"

namespace ringweave::train {

/// Consecutive parameters, whose gradients travel together.
struct Bucket {
  Range range;             ///< of the numbering of all
  std::int64_t layer = 0;  ///< posted when this one is done; -1: after backward
};

/// In the order in which backward finishes them: whole layers, at least
/// `bytes` (0: all in one), the last one with what lies before the layers.
std::vector<Bucket> gradient_buckets(const models::Model& model,
                                     std::int64_t bytes);
/// The same from where the numbers of each layer begin, from how many numbers
/// there are in all, and the bytes of one.
std::vector<Bucket> gradient_buckets(
    const std::vector<std::int64_t>& layer_begins, std::int64_t numbers,
    std::int64_t number_bytes, std::int64_t bytes);

/// Of one rank. If `sharded` this rank gets the sums of its piece of all
/// numbers, else all sums.
class GradientSums {
 public:
  /// `gradients`: flat, fp32 or fp64, as long as the buckets together. The
  /// communicator must outlive it.
  GradientSums(at::Tensor gradients, std::vector<Bucket> buckets, bool sharded,
               comm::Communicator& communicator);

  /// Before the last backward of a step, which adds the last numbers.
  void start();
  /// models::Context::layer_done of that backward. Throws CommError at a
  /// time-out.
  void layer_done(std::int64_t layer);
  /// After that backward: waits for all, and returns the numbers whose sums
  /// this rank has.
  Range finish();

  /// Since the start of the step.
  double waiting_seconds() const { return sum_ ? sum_->waiting_seconds() : 0; }

 private:
  at::Tensor gradients_;
  std::vector<Bucket> buckets_;
  bool sharded_;
  comm::Communicator& communicator_;
  std::optional<comm::BucketSum> sum_;  ///< of the step
};

}  // namespace ringweave::train
