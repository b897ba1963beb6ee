#include "ringweave/train/data.h"

#include <filesystem>
#include <fstream>
#include <set>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "ringweave/base/error.h"

namespace ringweave::train {
namespace {

using ::testing::HasSubstr;

class DataFiles : public ::testing::Test {
 protected:
  DataFiles()
      : folder_(std::filesystem::temp_directory_path() /
                fmt::format("ringweave_data_test_{}", ::getpid())) {
    std::filesystem::create_directories(folder_);
  }
  ~DataFiles() override { std::filesystem::remove_all(folder_); }

  std::string file(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return (folder_ / name).string();
  }

  std::string refusal(const DataConfig& config) const {
    try {
      read_data(config);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    ADD_FAILURE() << "nothing was thrown";
    return "";
  }

  std::filesystem::path folder_;
};

TEST_F(DataFiles, AreJoinedAndTheEndIsHeldBack) {
  DataConfig config{.files = {file("a", "01234567"), file("b", "89abcdefghij")},
                    .validation_fraction = 0.25,
                    .seq_len = 3};
  const Data data = read_data(config);
  EXPECT_EQ(data.train, "0123456789abcde");
  EXPECT_EQ(data.validation, "fghij");
  config.validation_fraction = 0;
  EXPECT_EQ(read_data(config).validation, "");
  config.validation_files = {file("c", "wxyz")};
  config.validation_fraction = 0.25;
  EXPECT_EQ(read_data(config).validation, "wxyz");
  EXPECT_EQ(read_data(config).train.size(), 20u);
}

TEST_F(DataFiles, BadFilesAreOneClearErrorEach) {
  const std::string good = file("good", "some text");
  const std::string empty = file("empty", "");
  const std::string none = (folder_ / "none").string();
  EXPECT_THAT(refusal({.files = {good, none}}), HasSubstr("No such file"));
  EXPECT_THAT(refusal({.files = {good, none}}), HasSubstr(none));
  EXPECT_THAT(refusal({.files = {good, empty}}),
              HasSubstr("got an empty file " + empty));
  EXPECT_THAT(refusal({.files = {folder_.string()}}),
              HasSubstr("want a readable text file"));
  EXPECT_THAT(refusal({.files = {good}, .validation_files = {empty}}),
              HasSubstr("got an empty file"));
  EXPECT_THAT(
      refusal({.files = {good}, .validation_fraction = 0, .seq_len = 9}),
      HasSubstr("got 9 bytes of training text; want at least 10"));
  EXPECT_THAT(
      refusal({.files = {good}, .validation_fraction = 0.2, .seq_len = 4}),
      HasSubstr("got 2 bytes of validation text; want at least 5"));
}

TEST(TrainingBatch, LabelsFollowTokensAndBytesAreUnsigned) {
  const Data data{.train = "\xff\x01", .validation = ""};
  const at::Tensor batch =
      training_batch(data, {.seq_len = 1, .batch = 2}, 0, 0);
  EXPECT_TRUE(
      batch.equal(at::tensor({255, 1, 255, 1}, at::kLong).view({2, 2})));
}

std::string long_text() {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += static_cast<char>(i * 7 % 251);
  return text;
}

TEST(TrainingBatch, ASampleDependsOnItsNumberAndTheSeedOnly) {
  const Data data{.train = long_text(), .validation = ""};
  const auto batch = [&](std::int64_t size, std::int64_t seed,
                         std::int64_t step) {
    return training_batch(data, {.seq_len = 9, .batch = size}, seed, step);
  };
  // Samples 4 … 7, as two batches of two and one of four.
  const at::Tensor pairs = at::cat({batch(2, 1, 2), batch(2, 1, 3)});
  EXPECT_TRUE(pairs.equal(batch(4, 1, 1)));
  EXPECT_FALSE(pairs.equal(batch(4, 2, 1)));
  EXPECT_FALSE(pairs.equal(batch(4, 1, 2)));
}

TEST(TrainingBatch, ReachesTheWholeTextAndNothingBeyond) {
  const Data data{.train = std::string("abcdefgh"), .validation = ""};
  std::set<std::int64_t> firsts;
  for (std::int64_t step = 0; step < 50; ++step) {
    const at::Tensor batch =
        training_batch(data, {.seq_len = 3, .batch = 4}, 0, step);
    EXPECT_EQ(batch.size(1), 4);
    for (std::int64_t row = 0; row < 4; ++row) {
      const auto first = batch[row][0].item<std::int64_t>();
      EXPECT_EQ(batch[row][3].item<std::int64_t>(), first + 3);
      firsts.insert(first);
    }
  }
  EXPECT_EQ(firsts, (std::set<std::int64_t>{'a', 'b', 'c', 'd', 'e'}));
}

TEST(ValidationBatch, GoesThroughTheTextOnceInOrder) {
  // 10 bytes: three whole sequences of 3 tokens, each with its last label.
  const Data data{.train = "", .validation = "abcdefghij"};
  const DataConfig config{.seq_len = 3, .batch = 2};
  ASSERT_EQ(validation_batches(data, config), 2);
  EXPECT_TRUE(
      validation_batch(data, config, 0)
          .equal(at::tensor({'a', 'b', 'c', 'd', 'd', 'e', 'f', 'g'}, at::kLong)
                     .view({2, 4})));
  EXPECT_TRUE(
      validation_batch(data, config, 1)
          .equal(at::tensor({'g', 'h', 'i', 'j'}, at::kLong).view({1, 4})));
  EXPECT_EQ(validation_batches({.train = "x", .validation = ""}, config), 0);
}

TEST(Hash, SeesEveryByteAndTheSplit) {
  const std::string base = hash({.train = "abcd", .validation = "ef"});
  EXPECT_EQ(base, hash({.train = "abcd", .validation = "ef"}));
  EXPECT_NE(base, hash({.train = "abcx", .validation = "ef"}));
  EXPECT_NE(base, hash({.train = "abcde", .validation = "f"}));
}

}  // namespace
}  // namespace ringweave::train
