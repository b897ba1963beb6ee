#include "ringweave/train/gradient_sums.h"

#include <utility>

#include <ATen/ATen.h>

#include "ringweave/train/flat.h"

namespace ringweave::train {

std::vector<Bucket> gradient_buckets(const models::Model& model,
                                     std::int64_t bytes) {
  const auto& parameters = model.parameters();
  std::vector<std::int64_t> begins;
  std::int64_t numbers = 0;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const std::int64_t layer = std::ssize(begins);
    if (layer < model.config().layers && i == model.first_parameter(layer)) {
      begins.push_back(numbers);
    }
    numbers += parameters[i].value.numel();
  }
  return gradient_buckets(
      begins, numbers,
      static_cast<std::int64_t>(parameters.at(0).value.element_size()), bytes);
}

std::vector<Bucket> gradient_buckets(
    const std::vector<std::int64_t>& layer_begins, std::int64_t numbers,
    std::int64_t number_bytes, std::int64_t bytes) {
  const std::int64_t wanted = ceil_div(bytes, number_bytes);
  std::vector<Bucket> buckets;
  std::int64_t end = numbers;
  for (std::int64_t layer = std::ssize(layer_begins) - 1; layer > 0; --layer) {
    const std::int64_t begin = layer_begins[static_cast<std::size_t>(layer)];
    if (wanted > 0 && end - begin >= wanted) {
      buckets.push_back({.range = {begin, end}, .layer = layer});
      end = begin;
    }
  }
  buckets.push_back({.range = {0, end}, .layer = -1});
  return buckets;
}

GradientSums::GradientSums(at::Tensor gradients, std::vector<Bucket> buckets,
                           bool sharded, comm::Communicator& communicator)
    : gradients_(std::move(gradients)),
      buckets_(std::move(buckets)),
      sharded_(sharded),
      communicator_(communicator) {}

void GradientSums::start() {
  std::vector<Range> ranges;
  for (const Bucket& bucket : buckets_) ranges.push_back(bucket.range);
  with_span(gradients_, [&](auto numbers) {
    sum_.emplace(numbers, ranges,
                 sharded_ ? comm::BucketSum::Result::pieces
                          : comm::BucketSum::Result::everywhere,
                 communicator_);
  });
}

void GradientSums::layer_done(std::int64_t layer) {
  const std::size_t next = sum_->next();
  if (next < buckets_.size() && layer == buckets_[next].layer) sum_->post(next);
}

Range GradientSums::finish() {
  // All but the last one, which waits for the end of backward, are posted; that
  // is checked there.
  sum_->post(buckets_.size() - 1);
  sum_->finish();
  const Range all = {0, gradients_.numel()};
  return sharded_ ? cut(all, communicator_.rank(), communicator_.size()) : all;
}

}  // namespace ringweave::train
