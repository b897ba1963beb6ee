#include "ringweave/checkpoint/checkpoint_folder.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/checkpoint/state.h"
#include "ringweave/checkpoint/test_folder.h"

namespace ringweave::checkpoint {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

void write(const CheckpointFolder& folder, std::int64_t step) {
  folder.begin(step);
  overwrite(folder.partial_path_of(step) + "/file", "x");
  folder.complete(step);
}

TEST(CheckpointFolder, ACheckpointIsCompleteOrAbsent) {
  const TestFolder run("checkpoints");
  const CheckpointFolder folder(run.path());
  EXPECT_THAT(folder.steps(), IsEmpty());
  EXPECT_EQ(folder.newest(), std::nullopt);
  folder.begin(7);
  EXPECT_TRUE(std::filesystem::is_directory(folder.partial_path_of(7)));
  EXPECT_THAT(folder.steps(), IsEmpty());
  folder.complete(7);
  EXPECT_THAT(folder.steps(), ElementsAre(7));
  write(folder, 123456789);
  EXPECT_EQ(folder.newest(), 123456789);
  EXPECT_EQ(content(folder.path_of(123456789) + "/file"), "x");
}

TEST(CheckpointFolder, NothingIsLeftOfOneThatWasNotCompleted) {
  const TestFolder run("checkpoints");
  const CheckpointFolder folder(run.path());
  folder.begin(3);
  overwrite(folder.partial_path_of(3) + "/file", "half");
  write(folder, 4);
  EXPECT_FALSE(std::filesystem::exists(folder.partial_path_of(3)));
  EXPECT_THAT(folder.steps(), ElementsAre(4));
  // The same step again: nothing of the first try is in it.
  folder.begin(5);
  overwrite(folder.partial_path_of(5) + "/half", "half");
  write(folder, 5);
  EXPECT_FALSE(std::filesystem::exists(folder.path_of(5) + "/half"));
}

TEST(CheckpointFolder, KeepsTheNewestAndTheMultiples) {
  const TestFolder run("checkpoints");
  const CheckpointFolder folder(run.path());
  for (const std::int64_t step : {10, 15, 20, 25, 30, 35}) write(folder, step);
  folder.keep(2, 10);
  EXPECT_THAT(folder.steps(), ElementsAre(10, 20, 30, 35));
  folder.keep(2, 0);
  EXPECT_THAT(folder.steps(), ElementsAre(30, 35));
  folder.keep(9, 0);
  EXPECT_THAT(folder.steps(), ElementsAre(30, 35));
}

TEST(CheckpointFolder, ForeignNamesAreNoCheckpoints) {
  const TestFolder run("checkpoints");
  const CheckpointFolder folder(run.path());
  write(folder, 1);
  for (const char* name : {"step-2", "step-0000000x", "step-00000003.old",
                           "step-", "latest", "step--0000005"}) {
    std::filesystem::create_directory(folder.path() + "/" + name);
  }
  EXPECT_THAT(folder.steps(), ElementsAre(1));
}

TEST(CheckpointFolder, PlaceOfAPath) {
  const auto place = place_of_checkpoint("/a/run/checkpoints/step-00000042/");
  ASSERT_TRUE(place.has_value());
  EXPECT_EQ(place->run, "/a/run");
  EXPECT_EQ(place->step, 42);
  for (const char* path : {"/a/run", "/a/run/checkpoints", "/a/step-00000042",
                           "/a/checkpoints/step-42", ""}) {
    EXPECT_FALSE(place_of_checkpoint(path).has_value()) << path;
  }
}

TEST(CheckpointFolder, FindsTheCheckpointThatAPathStandsFor) {
  const TestFolder run("checkpoints"), copied("checkpoints-copied");
  const CheckpointFolder folder(run.path());
  EXPECT_EQ(find_checkpoint(run.path()), std::nullopt);
  write(folder, 3);
  write(folder, 5);
  EXPECT_EQ(find_checkpoint(run.path()), folder.path_of(5));
  EXPECT_EQ(find_checkpoint(folder.path_of(3)), folder.path_of(3));
  // One that is named is meant, even if it is not there.
  EXPECT_EQ(find_checkpoint(folder.path_of(4)), folder.path_of(4));
  EXPECT_EQ(find_checkpoint(copied.path()), std::nullopt);
  overwrite(copied.file(kStateFile), "{}");
  EXPECT_EQ(find_checkpoint(copied.path()), copied.path());
  for (const std::string& path :
       {std::string(), run.file("absent"), folder.path_of(5) + "/file"}) {
    EXPECT_EQ(find_checkpoint(path), std::nullopt) << path;
  }
}

TEST(CheckpointFolder, AFolderThatCantBeMade) {
  const TestFolder run("checkpoints");
  overwrite(run.file("checkpoints"), "a file");
  EXPECT_THROW(CheckpointFolder(run.path()).begin(1), Error);
}

}  // namespace
}  // namespace ringweave::checkpoint
