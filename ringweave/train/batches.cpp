#include "ringweave/train/batches.h"

#include <algorithm>
#include <numeric>

#include <ATen/ATen.h>

namespace ringweave::train {

std::vector<std::int64_t> training_indices(const Dataset& dataset,
                                           const TrainConfig& config,
                                           std::int64_t step) {
  const data::Order order(config.seed, dataset.train.size());
  std::vector<std::int64_t> indices;
  for (std::int64_t row = 0; row < config.data.batch; ++row) {
    indices.push_back(order.at(step * config.data.batch + row));
  }
  return indices;
}

std::int64_t validation_batches(const Dataset& dataset,
                                const TrainConfig& config) {
  return ceil_div(dataset.validation.size(), config.data.batch);
}

std::vector<std::int64_t> validation_indices(const Dataset& dataset,
                                             const TrainConfig& config,
                                             std::int64_t batch) {
  const std::int64_t begin = batch * config.data.batch;
  const std::int64_t end =
      std::min(begin + config.data.batch, dataset.validation.size());
  std::vector<std::int64_t> indices(static_cast<std::size_t>(end - begin));
  std::iota(indices.begin(), indices.end(), begin);
  return indices;
}

Batch read_batch(const data::Sequences& sequences,
                 std::span<const std::int64_t> indices) {
  const std::int64_t seq_len = sequences.seq_len();
  Batch batch{
      .sequences = at::empty(
          {static_cast<std::int64_t>(indices.size()), seq_len + 1}, at::kLong),
      .borders = {}};
  auto* row = batch.sequences.mutable_data_ptr<std::int64_t>();
  bool any = false;
  for (const std::int64_t index : indices) {
    sequences.read(index, row);
    row += seq_len + 1;
    batch.borders.push_back(sequences.borders(index));
    any = any || !batch.borders.back().empty();
  }
  if (!any) batch.borders.clear();
  return batch;
}

std::int64_t count_labels(const data::Sequences& sequences,
                          std::span<const std::int64_t> indices) {
  std::int64_t labels = 0;
  for (const std::int64_t index : indices) {
    labels += sequences.seq_len() -
              static_cast<std::int64_t>(sequences.borders(index).size());
  }
  return labels;
}

}  // namespace ringweave::train
