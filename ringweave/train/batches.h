// Which sequences a step takes, and these as tensors.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/config/train_config.h"
#include "ringweave/data/dataset.h"
#include "ringweave/models/rows.h"

namespace ringweave::train {

using config::TrainConfig;
using data::Dataset;

/// Of step `step`, counted from 0: the same however many ranks there are. The
/// sequences of an epoch come in an order of its own, which depends on the seed
/// alone; a batch may reach into the next epoch.
std::vector<std::int64_t> training_indices(const Dataset& dataset,
                                           const TrainConfig& config,
                                           std::int64_t step);

/// Validation goes through the sequences in their order, in batches whose last
/// may have fewer.
std::int64_t validation_batches(const Dataset& dataset,
                                const TrainConfig& config);
std::vector<std::int64_t> validation_indices(const Dataset& dataset,
                                             const TrainConfig& config,
                                             std::int64_t batch);

struct Batch {
  at::Tensor sequences;                  ///< (rows, seq_len + 1) int64
  std::vector<models::Borders> borders;  ///< empty: no row has any
};

Batch read_batch(const data::Sequences& sequences,
                 std::span<const std::int64_t> indices);

/// Labels that are of the same document as their tokens.
std::int64_t count_labels(const data::Sequences& sequences,
                          std::span<const std::int64_t> indices);

}  // namespace ringweave::train
