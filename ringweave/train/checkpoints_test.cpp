#include "ringweave/train/checkpoints.h"

#include <csignal>
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "ringweave/base/error.h"
#include "ringweave/checkpoint/manifest.h"
#include "ringweave/checkpoint/safetensors.h"
#include "ringweave/checkpoint/test_folder.h"
#include "ringweave/comm/local_ranks.h"
#include "ringweave/train/test_run.h"

namespace ringweave::train {
namespace {

using checkpoint::CheckpointFolder;
using checkpoint::TestFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kSteps = 9;

TrainConfig short_run(int ranks, ElementType compute) {
  TrainConfig config = tiny(ranks, compute);
  config.steps = kSteps;
  config.validation = {.every = 2, .batches = 2};
  config.checkpoint = {.every_steps = 4, .keep_last = 9};
  return config;
}

Saving saving(const TestFolder& run, std::optional<std::int64_t> resume = {}) {
  return {.run = run.path(), .resume = resume, .data = "d", .versions = {}};
}

std::vector<double> figures(const Log& log) {
  std::vector<double> all;
  for (const auto& step : log.steps) {
    all.insert(all.end(), {step.loss, step.grad_norm, step.learning_rate});
  }
  for (const auto& validation : log.validations) all.push_back(validation.loss);
  return all;
}

TEST(Checkpoints, SavingChangesNoBitAndComesAsConfigured) {
  const TestFolder run("train");
  const TrainConfig config = short_run(3, ElementType::float32);
  EXPECT_EQ(figures(train(config, saving(run))), figures(train(config)));
  EXPECT_THAT(CheckpointFolder(run.path()).steps(), ElementsAre(4, 8, 9));
  EXPECT_FALSE(std::filesystem::exists(run.file("ranks-look-here")));
}

TEST(Checkpoints, TheSameRanksGoOnWithTheSameBits) {
  for (const ElementType compute :
       {ElementType::float32, ElementType::bfloat16, ElementType::float64}) {
    const TestFolder run("train");
    const TrainConfig config = short_run(3, compute);
    const Log whole = train(config);
    const Log first = train(config, saving(run), 5);
    EXPECT_EQ(first.report.spent.stop, 15);
    EXPECT_EQ(first.steps.size(), 5u);
    EXPECT_EQ(CheckpointFolder(run.path()).newest(), 5);
    const Log rest = train(config, saving(run, 5));
    EXPECT_EQ(rest.report.steps, kSteps - 5);
    Log both = first;
    both.steps.insert(both.steps.end(), rest.steps.begin(), rest.steps.end());
    both.validations.insert(both.validations.end(), rest.validations.begin(),
                            rest.validations.end());
    EXPECT_EQ(figures(both), figures(whole));
  }
}

/// Expects that a copy of `run`, which has the checkpoint of 4 steps, goes on
/// with `config` as `whole` did.
void expect_goes_on(const TrainConfig& config, const TestFolder& run,
                    const Log& whole) {
  const TestFolder copy("train-copy");
  std::filesystem::copy(run.path(), copy.path(),
                        std::filesystem::copy_options::recursive);
  const Log rest = train(config, saving(copy, 4));
  ASSERT_EQ(rest.steps.size(), kSteps - 4u);
  for (std::size_t i = 0; i < rest.steps.size(); ++i) {
    EXPECT_NEAR(rest.steps[i].loss, whole.steps[i + 4].loss, 1e-9)
        << config.parallel.ranks;
  }
}

TEST(Checkpoints, OtherRanksLayoutsAndStrategiesGoOnAlike) {
  const TestFolder run("train");
  TrainConfig config = short_run(4, ElementType::float64);
  const Log whole = train(config);
  train(config, saving(run), 4);
  for (const int ranks : {1, 2, 3, 5}) {
    TrainConfig other = config;
    other.parallel.ranks = ranks;
    other.parallel.layout = "contiguous";
    other.parallel.softmax = "ring";
    other.parallel.linear = "chain";
    expect_goes_on(other, run, whole);
  }
}

TEST(Checkpoints, ShardedMomentsMergeAndSplit) {
  TrainConfig config = short_run(4, ElementType::float64);
  config.data.batch = 6;
  const Log whole = train(config);
  for (const bool sharded_before : {true, false}) {
    const TestFolder run("train");
    TrainConfig first = config;
    first.parallel.data = 2;
    first.parallel.shard_optimizer = sharded_before;
    train(first, saving(run), 4);
    for (const int ranks : {1, 2, 3, 5}) {
      TrainConfig other = config;
      other.parallel.ranks = ranks;
      other.parallel.accumulation = 2;
      other.parallel.shard_optimizer = !sharded_before || ranks % 2 == 1;
      expect_goes_on(other, run, whole);
    }
  }
}

TEST(Checkpoints, MoreStepsThanFirstPlanned) {
  const TestFolder run("train");
  TrainConfig config = short_run(2, ElementType::float32);
  train(config, saving(run));
  // Nothing is left to do: nothing is done, nothing written.
  const Log none = train(config, saving(run, kSteps));
  EXPECT_EQ(none.steps.size() + none.validations.size(), 0u);
  EXPECT_FALSE(none.report.first_loss.has_value());
  config.steps += 3;
  const Log more = train(config, saving(run, kSteps));
  EXPECT_EQ(more.steps.size(), 3u);
  EXPECT_EQ(CheckpointFolder(run.path()).newest(), kSteps + 3);
}

TEST(Checkpoints, OldOnesGo) {
  const TestFolder run("train");
  TrainConfig config = short_run(2, ElementType::float32);
  config.checkpoint = {.every_steps = 2, .keep_last = 1, .keep_every = 4};
  train(config, saving(run));
  EXPECT_THAT(CheckpointFolder(run.path()).steps(), ElementsAre(4, 8, 9));
}

TEST(Checkpoints, WeightsHaveTheNamesOfHuggingFace) {
  const TestFolder run("train");
  const TrainConfig config = short_run(2, ElementType::bfloat16);
  train(config, saving(run));
  const checkpoint::SafetensorsFile file(
      CheckpointFolder(run.path()).path_of(kSteps) + "/model.safetensors");
  std::vector<std::string> names;
  for (const auto& tensor : file.tensors()) {
    names.push_back(tensor.name);
    EXPECT_EQ(tensor.type, checkpoint::DataType::float32);  // the masters
  }
  EXPECT_THAT(
      names, ::testing::IsSupersetOf(
                 {"model.embed_tokens.weight", "model.norm.weight",
                  "model.layers.0.self_attn.q_proj.weight", "lm_head.weight"}));
}

/// What all ranks say to a checkpoint after `damage` was done to its folder.
std::string refusal(const std::function<void(const std::string&)>& damage) {
  const TestFolder run("train");
  const TrainConfig config = short_run(3, ElementType::float32);
  train(config, saving(run));
  const std::string folder = CheckpointFolder(run.path()).path_of(kSteps);
  damage(folder);
  const Saving resume = saving(run, kSteps);
  std::vector<std::string> texts(3);
  comm::rank_outcomes(3, [&](Rank rank,
                             std::shared_ptr<comm::Transport> transport) {
    comm::Communicator communicator(std::move(transport), time_outs(config));
    try {
      train::run(config, exchanges(config), dataset(config), communicator, {},
                 resume);
    } catch (const InvalidArgument& error) {
      texts[rank] = error.what();
      throw;
    }
  });
  EXPECT_EQ(texts[1], texts[0]);
  EXPECT_EQ(texts[2], texts[0]);
  EXPECT_EQ(CheckpointFolder(run.path()).newest(), kSteps);
  return texts[0];
}

/// Writes the file anew, with the right sum in the manifest.
void replace(const std::string& folder, const std::string& name,
             const std::function<void(std::string&)>& change) {
  const std::string path = folder + "/" + name;
  std::string bytes = checkpoint::content(path);
  change(bytes);
  checkpoint::Manifest manifest = checkpoint::read_manifest(folder);
  std::filesystem::remove(path);
  manifest[name] = checkpoint::write_durable(path, bytes);
  std::filesystem::remove(folder + "/manifest.json");
  checkpoint::write_manifest(folder, manifest);
}

TEST(Checkpoints, DamagedOnesAreOneErrorOnAllRanks) {
  const std::string part = "optimizer-00002-of-00003.safetensors";
  for (const auto& name : {std::string("model.safetensors"), part}) {
    EXPECT_THAT(refusal([&](const std::string& folder) {
                  std::filesystem::resize_file(folder + "/" + name, 1000);
                }),
                AllOf(HasSubstr(name), HasSubstr("got 1000 bytes")));
    EXPECT_THAT(refusal([&](const std::string& folder) {
                  std::filesystem::remove(folder + "/" + name);
                }),
                AllOf(HasSubstr(name), HasSubstr("No such file")));
    EXPECT_THAT(refusal([&](const std::string& folder) {
                  std::string bytes = checkpoint::content(folder + "/" + name);
                  bytes.back() ^= 1;
                  checkpoint::overwrite(folder + "/" + name, bytes);
                }),
                AllOf(HasSubstr(name), HasSubstr("was changed or is damaged")));
    EXPECT_THAT(refusal([&](const std::string& folder) {
                  replace(folder, name, [](std::string& bytes) {
                    bytes = "no tensors at all";
                  });
                }),
                AllOf(HasSubstr(name), HasSubstr("safetensors")));
  }
  EXPECT_THAT(refusal([](const std::string& folder) {
                std::filesystem::remove(folder + "/manifest.json");
              }),
              HasSubstr("manifest.json"));
  EXPECT_THAT(refusal([](const std::string& folder) {
                replace(folder, "model.safetensors", [](std::string& bytes) {
                  const std::string name = "model.norm.weight";
                  bytes.replace(bytes.find(name), name.size(),
                                "model.morn.weight");
                });
              }),
              AllOf(HasSubstr("model.safetensors"),
                    HasSubstr("got no tensor model.norm.weight")));
  EXPECT_THAT(refusal([](const std::string& folder) {
                replace(folder, "state.json", [](std::string& bytes) {
                  bytes.replace(bytes.find("\"parts\": 3"), 10, "\"parts\": 4");
                });
              }),
              HasSubstr("got no optimizer-00001-of-00004.safetensors"));
}

TEST(Checkpoints, AModelOfAnotherShapeIsRefused) {
  const TestFolder run("train");
  TrainConfig config = short_run(2, ElementType::float32);
  train(config, saving(run));
  config.model.hidden = 20;
  EXPECT_THAT([&] { train(config, saving(run, kSteps)); },
              ::testing::ThrowsMessage<InvalidArgument>(
                  AllOf(HasSubstr("model.safetensors"), HasSubstr("16"),
                        HasSubstr("want float32"), HasSubstr("20"))));
}

TEST(Checkpoints, AFullDiskLeavesTheLastOne) {
  const TestFolder run("train");
  const TrainConfig config = short_run(2, ElementType::float32);
  train(config, saving(run), 5);
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  const auto signal_before = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{20000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &limit);
  EXPECT_THAT([&] { train(config, saving(run, 5)); },
              ::testing::ThrowsMessage<Error>(AllOf(
                  HasSubstr("can't write"), HasSubstr("step-00000008.partial"),
                  HasSubstr("File too large"))));
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, signal_before);
  const CheckpointFolder folder(run.path());
  EXPECT_EQ(folder.newest(), 5);
  EXPECT_FALSE(std::filesystem::exists(folder.partial_path_of(8)));
  EXPECT_EQ(train(config, saving(run, 5)).report.steps, kSteps - 5);
}

TEST(Checkpoints, RanksThatSeeOtherFoldersAllSaySo) {
  const TestFolder run("train"), other("train-other");
  std::filesystem::create_directories(other.path());
  const TrainConfig config = short_run(3, ElementType::float32);
  std::vector<std::string> texts(3);
  comm::rank_outcomes(3, [&](Rank rank,
                             std::shared_ptr<comm::Transport> transport) {
    comm::Communicator communicator(std::move(transport), time_outs(config));
    const Saving mine = saving(rank == 2 ? other : run);
    try {
      train::run(config, exchanges(config), dataset(config), communicator, {},
                 mine);
    } catch (const InvalidArgument& error) {
      texts[rank] = error.what();
      throw;
    }
  });
  for (const std::string& text : texts) {
    EXPECT_THAT(text, AllOf(HasSubstr("rank 2"), HasSubstr("one file system")));
  }
}

}  // namespace
}  // namespace ringweave::train
