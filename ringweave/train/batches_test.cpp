#include "ringweave/train/batches.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/data/test_source.h"

namespace ringweave::train {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

TrainConfig config_of(std::int64_t seq_len, std::int64_t batch) {
  TrainConfig config;
  config.data.seq_len = seq_len;
  config.data.batch = batch;
  config.data.validation_fraction = 0;
  return config;
}

Dataset dataset_of(const TrainConfig& config,
                   const std::vector<std::string>& documents,
                   const std::vector<std::string>& validation = {}) {
  return data::make_dataset(
      data::test::corpus({documents}),
      validation.empty() ? nullptr : data::test::corpus({validation}),
      config.data);
}

TEST(Training, ASequenceDependsOnItsNumberAndTheSeedOnly) {
  const auto indices = [](std::int64_t batch, std::int64_t seed,
                          std::int64_t step) {
    TrainConfig config = config_of(9, batch);
    config.seed = seed;
    return training_indices(dataset_of(config, {std::string(1000, 'x')}),
                            config, step);
  };
  // Sequences 4 … 7, as two batches of two and one of four.
  auto pairs = indices(2, 1, 2);
  std::ranges::copy(indices(2, 1, 3), std::back_inserter(pairs));
  EXPECT_EQ(pairs, indices(4, 1, 1));
  EXPECT_NE(pairs, indices(4, 2, 1));
  EXPECT_NE(pairs, indices(4, 1, 2));
}

TEST(Training, AnEpochTakesEachSequenceOnce) {
  const TrainConfig config = config_of(2, 2);
  const Dataset dataset = dataset_of(config, {"abcdefg"});
  std::vector<std::int64_t> six;
  for (std::int64_t step = 0; step < 3; ++step) {
    std::ranges::copy(training_indices(dataset, config, step),
                      std::back_inserter(six));
  }
  EXPECT_THAT(std::vector(six.begin(), six.begin() + 3),
              UnorderedElementsAre(0, 1, 2));
  EXPECT_THAT(std::vector(six.begin() + 3, six.end()),
              UnorderedElementsAre(0, 1, 2));
}

TEST(Validation, GoesThroughTheSequencesOnceInOrder) {
  const TrainConfig config = config_of(3, 2);
  const Dataset dataset = dataset_of(config, {"wxyz"}, {"abcdefghij"});
  ASSERT_EQ(validation_batches(dataset, config), 2);
  EXPECT_THAT(validation_indices(dataset, config, 0), ElementsAre(0, 1));
  EXPECT_THAT(validation_indices(dataset, config, 1), ElementsAre(2));
  EXPECT_EQ(validation_batches(dataset_of(config, {"wxyz"}), config), 0);
}

TEST(Batch, LabelsFollowTokensAndBordersAreTheRows) {
  TrainConfig config = config_of(3, 2);
  config.data.documents = "reset";
  const Dataset dataset = dataset_of(config, {"ab", "c", "defghij"});
  const std::vector<std::int64_t> indices = {1, 0};
  const Batch batch = read_batch(dataset.train, indices);
  EXPECT_TRUE(batch.sequences.equal(
      at::tensor({'d', 'e', 'f', 'g', 'a', 'b', 'c', 'd'}, at::kLong)
          .view({2, 4})));
  EXPECT_THAT(batch.borders, ElementsAre(IsEmpty(), ElementsAre(2, 3)));
  EXPECT_EQ(count_labels(dataset.train, indices), 4);
  EXPECT_THAT(read_batch(dataset.train, std::span(indices).first(1)).borders,
              IsEmpty());
}

}  // namespace
}  // namespace ringweave::train
