#include "ringweave/cli/run_folder.h"

#include <csignal>
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ringweave/base/error.h"
#include "ringweave/checkpoint/checkpoint_folder.h"

namespace ringweave::cli {
namespace {

/// A path that does not exist; whatever is there at the end is removed.
class RunFolderTest : public testing::Test {
 protected:
  RunFolderTest()
      : path_(std::filesystem::temp_directory_path() /
              fmt::format("ringweave-run-folder-test-{}", getpid())) {
    std::filesystem::remove_all(path_);
  }
  ~RunFolderTest() override { std::filesystem::remove_all(path_); }

  const std::filesystem::path path_;
};

TEST_F(RunFolderTest, HoldsConfigVersionsSeedAndMetrics) {
  const std::string folder = path_ / "deeper";
  RunFolder::make(folder);
  const Json config = {{"steps", 3}};
  RunFolder run({.path = folder}, config, {{"ringweave", "0.0.1"}}, 42);
  run.add({{"loss", 0.1}});
  run.add({{"loss", 0.2}});

  EXPECT_EQ(read_json_file(folder + "/config.json"), config);
  const Json facts = read_json_file(folder + "/run.json");
  EXPECT_EQ(facts["format"], "ringweave.run");
  EXPECT_EQ(facts["seed"], 42);
  EXPECT_EQ(facts["versions"]["ringweave"], "0.0.1");
  std::ifstream metrics(folder + "/metrics.jsonl");
  std::string line;
  ASSERT_TRUE(std::getline(metrics, line));
  EXPECT_EQ(line, R"({"loss":0.1})");
  ASSERT_TRUE(std::getline(metrics, line));
  EXPECT_FALSE(std::getline(metrics, line));
}

TEST_F(RunFolderTest, AFullDiskLeavesWholeLinesAndSaysWhy) {
  RunFolder::make(path_);
  RunFolder run({.path = path_}, {}, {}, 1);
  const Json line = {{"text", std::string(1000, 'x')}};
  run.add(line);
  // A file may not grow beyond the middle of the next line.
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  const auto signal_before = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{1500, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &limit);
  std::string error;
  try {
    run.add(line);
  } catch (const Error& thrown) {
    error = thrown.what();
  }
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, signal_before);
  EXPECT_THAT(error, testing::AllOf(testing::HasSubstr("metrics.jsonl"),
                                    testing::HasSubstr("File too large")));
  EXPECT_EQ(std::filesystem::file_size(path_ / "metrics.jsonl"),
            line.dump().size() + 1);
}

TEST_F(RunFolderTest, RefusesAFolderInUseAndAFile) {
  RunFolder::make(path_);
  EXPECT_NO_THROW(RunFolder::make(path_));
  std::ofstream(path_ / "metrics.jsonl") << "{}\n";
  EXPECT_THROW(RunFolder::make(path_), InvalidArgument);
  EXPECT_THROW(RunFolder::make(path_ / "metrics.jsonl"), InvalidArgument);
  EXPECT_THROW(RunFolder::make(path_ / "metrics.jsonl" / "x"), InvalidArgument);
}

TEST_F(RunFolderTest, GoesOnWithTheMetricsOfTheStepsDone) {
  RunFolder::make(path_);
  {
    RunFolder run({.path = path_}, {}, {}, 1);
    for (const int step : {1, 2, 3}) {
      run.add({{"kind", "step"}, {"step", step}});
      run.add({{"kind", "validation"}, {"step", step}});
    }
  }
  // A process that was killed while it wrote.
  std::ofstream(path_ / "metrics.jsonl", std::ios::app) << "{\"kind\": \"st";
  RunFolder run({.path = path_, .begun = true, .step = 2}, {{"steps", 9}}, {},
                1);
  run.add({{"kind", "step"}, {"step", 3}});
  std::ifstream metrics(path_ / "metrics.jsonl");
  std::vector<std::string> got;
  for (std::string line; std::getline(metrics, line);) {
    const Json json = Json::parse(line);
    got.push_back(fmt::format("{} {}", json["kind"].get<std::string>(),
                              json["step"].get<int>()));
  }
  EXPECT_THAT(got, ::testing::ElementsAre("step 1", "validation 1", "step 2",
                                          "validation 2", "step 3"));
  EXPECT_EQ(read_json_file(path_ / "config.json"), Json({{"steps", 9}}));
}

TEST_F(RunFolderTest, OneProcessAtATime) {
  RunFolder::make(path_);
  {
    const RunLock lock(path_);
    EXPECT_THAT([&] { RunLock another(path_); },
                ::testing::ThrowsMessage<InvalidArgument>(
                    ::testing::HasSubstr("another process trains")));
  }
  EXPECT_NO_THROW(RunLock again(path_));
}

TEST_F(RunFolderTest, WhatAResumeMeans) {
  EXPECT_EQ(find_run("", "").path, "");
  EXPECT_EQ(find_run("run", "").path, "run");
  EXPECT_FALSE(find_run("run", "").begun);
  EXPECT_THROW(find_run("", "auto"), InvalidArgument);
  EXPECT_FALSE(find_run(path_, "auto").begun);
  EXPECT_THROW(find_run("", path_), InvalidArgument);
  RunFolder::make(path_);
  { const RunLock lock(path_); }
  EXPECT_TRUE(find_run(path_, "auto").begun);
  EXPECT_EQ(find_run(path_, "auto").step, std::nullopt);
  EXPECT_THROW(find_run("", path_), InvalidArgument);  // no checkpoint

  const checkpoint::CheckpointFolder folder(path_);
  for (const std::int64_t step : {3, 5}) {
    folder.begin(step);
    folder.complete(step);
  }
  EXPECT_EQ(find_run(path_, "auto").step, 5);
  EXPECT_EQ(find_run("", path_).step, 5);
  EXPECT_EQ(find_run("", folder.path_of(5)).path, path_);
  EXPECT_EQ(find_run(path_, folder.path_of(5) + "/").step, 5);
  EXPECT_THROW(find_run("", folder.path_of(3)), InvalidArgument);
  EXPECT_THROW(find_run("", folder.path_of(4)), InvalidArgument);
  EXPECT_THROW(find_run(path_ / "other", folder.path_of(5)), InvalidArgument);
}

}  // namespace
}  // namespace ringweave::cli
