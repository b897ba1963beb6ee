#include "ringweave/train/parallel.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/planner/plan_file.h"

namespace ringweave::train {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TrainConfig config_of_ranks(int ranks) {
  TrainConfig config;
  config.parallel.ranks = ranks;
  config.parallel.topology = "mesh:ranks=5,rate=1e8";
  return config;
}

planner::PlanRequest request_of(const TrainConfig& config) {
  return {.machine = planner::load_machine(config.parallel.topology),
          .shape = model_shape(config),
          .layout = schedule::Layout::zigzag(config.data.seq_len, 5),
          .mask = schedule::Mask::causal(),
          .device_table = planner::load_device_table("cpu")};
}

planner::PlanFile plan_of(const TrainConfig& config) {
  const planner::PlanRequest request = request_of(config);
  return planner::plan_file(request, "zigzag", planner::make_plan(request));
}

class PlanOnDisk : public testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove(path_); }
  std::string save(const planner::PlanFile& plan) {
    std::ofstream(path_) << planner::to_json(plan);
    return path_;
  }
  std::string path_ = testing::TempDir() + "parallel_test_plan.json";
};

TEST(Exchanges, AutoIsWhatThePlannerPicks) {
  TrainConfig config = config_of_ranks(5);
  config.parallel.softmax = "auto";
  config.parallel.linear = "auto";
  const planner::PlanFile plan = plan_of(config);
  const Exchanges chosen = exchanges(config);
  EXPECT_EQ(schedule::name(chosen.softmax), plan.softmax->name);
  EXPECT_EQ(chosen.linear->name(), plan.linear->name);
}

TEST(Exchanges, AutoKnowsTheMessageOverheadAndKeepsToTheMemoryLimit) {
  TrainConfig config = config_of_ranks(5);
  config.parallel.softmax = "auto";
  config.parallel.linear = "auto";
  config.model.pattern = "N";
  const auto picked = [](const planner::PlanRequest& request) {
    const planner::LayerPlan plan = planner::make_plan(request).softmax;
    return plan.candidates[plan.chosen];
  };
  planner::PlanRequest request = request_of(config);
  const std::string free = picked(request).name;
  EXPECT_EQ(schedule::name(exchanges(config).softmax), free);

  // Slow posting asks for few messages, which takes memory.
  config.parallel.message_overhead_seconds = 1e-3;
  request.message_overhead_seconds = 1e-3;
  const planner::Candidate few = picked(request);
  EXPECT_NE(few.name, free);
  EXPECT_EQ(schedule::name(exchanges(config).softmax), few.name);

  config.parallel.memory_limit_bytes = few.memory_bytes - 1;
  request.memory_limit_bytes = few.memory_bytes - 1;
  const std::string fits = picked(request).name;
  EXPECT_NE(fits, few.name);
  EXPECT_EQ(schedule::name(exchanges(config).softmax), fits);

  config.parallel.memory_limit_bytes = 1;
  EXPECT_THAT([&] { exchanges(config); },
              ThrowsMessage<NoSolution>(HasSubstr("memory limit")));
}

TEST(Exchanges, FieldsThatNoPlanWouldKeepToAreErrors) {
  TrainConfig config = config_of_ranks(5);
  EXPECT_THAT([&] { exchanges(config); },
              ThrowsMessage<InvalidArgument>(
                  HasSubstr("[parallel.topology] got mesh:ranks=5")));
  config.parallel.topology.clear();
  config.parallel.device_table = "h100";
  EXPECT_THAT([&] { exchanges(config); },
              ThrowsMessage<InvalidArgument>(
                  HasSubstr("[parallel.device_table] got h100")));
  config.parallel.device_table.clear();
  config.parallel.memory_limit_bytes = 1e9;
  EXPECT_THAT([&] { exchanges(config); },
              ThrowsMessage<InvalidArgument>(
                  HasSubstr("[parallel.memory_limit_bytes] got 1000000000")));
  config.parallel.memory_limit_bytes = 0;
  config.parallel.message_overhead_seconds = 1e-6;
  EXPECT_THAT([&] { exchanges(config); },
              ThrowsMessage<InvalidArgument>(
                  HasSubstr("[parallel.message_overhead_seconds] got 1e-06")));
}

TEST(CheckRun, NamesAreToldWithoutFiles) {
  const auto fails = [](auto change, const char* word) {
    TrainConfig config;
    config.data.files = {"text"};
    EXPECT_NO_THROW(check_run(config));
    change(config.parallel);
    EXPECT_THAT([&] { check_run(config); },
                ThrowsMessage<InvalidArgument>(HasSubstr(word)));
  };
  fails([](ParallelConfig& p) { p.softmax = "multiring"; }, "multi_ring");
  fails([](ParallelConfig& p) { p.linear = "allgather"; }, "all_gather");
  fails([](ParallelConfig& p) { p.memory_limit_bytes = 1e9; },
        "neither softmax");
  fails([](ParallelConfig& p) { p.layout = "striped"; },
        "[parallel.layout] got \"striped\"");
}

TEST(CheckRun, AStrategyThatDoesNotExistForTheRanksIsRefused) {
  TrainConfig config;
  config.data.files = {"text"};
  config.parallel.softmax = "time_varying_multi_ring";
  config.parallel.ranks = 10;
  EXPECT_THROW(check_run(config), NoSolution);
  config.parallel.ranks = 9;
  EXPECT_NO_THROW(check_run(config));
}

TEST(Exchanges, AutoForOneKindLeavesTheOther) {
  TrainConfig config = config_of_ranks(5);
  config.parallel.softmax = "ring";
  config.parallel.linear = "auto";
  EXPECT_EQ(schedule::name(exchanges(config).softmax), "ring");
}

TEST(Exchanges, AutoWantsATopologyOfAsManyRanks) {
  TrainConfig config = config_of_ranks(4);
  config.parallel.softmax = "auto";
  EXPECT_THAT([&] { exchanges(config); },
              ThrowsMessage<InvalidArgument>(HasSubstr("5 ranks")));
  config.parallel.topology.clear();
  EXPECT_THAT([&] { exchanges(config); },
              ThrowsMessage<InvalidArgument>(HasSubstr("parallel.topology")));
}

TEST_F(PlanOnDisk, IsTakenAndCheckedAgainstTheRun) {
  TrainConfig config = config_of_ranks(5);
  planner::PlanFile plan = plan_of(config);
  plan.softmax->strategy = schedule::strategy_from_name("direct:2");
  plan.linear->name = "chain";
  config.parallel.plan = save(plan);
  EXPECT_EQ(describe(exchanges(config)),
            schedule::to_json(*plan.softmax->strategy).dump() + " chain");

  const auto fails = [&](const TrainConfig& changed, const char* word) {
    EXPECT_THAT([&] { exchanges(changed); },
                ThrowsMessage<InvalidArgument>(HasSubstr(word)));
  };
  TrainConfig other = config;
  other.parallel.ranks = 4;
  fails(other, "ranks 5");
  other = config;
  other.model.heads = 8;
  fails(other, "heads 4");
  other = config;
  other.data.seq_len += 1;
  fails(other, "seq_len");
  other = config;
  other.parallel.topology = "mesh:ranks=5,rate=2e8";
  fails(other, "topology");
  other = config;
  other.model.linear = config::LinearConfig("gla");
  fails(other, "linear layers");
}

}  // namespace
}  // namespace ringweave::train
