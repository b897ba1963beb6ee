#include "ringweave/config/run_to_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave::config {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

RunToPlan read_run(const std::string& text) {
  return run_to_plan_from_json(Json::parse(text), "f");
}

std::string with(const std::string& fields) {
  return R"({"format": "ringweave.config", "version": 1, )" + fields + "}";
}

TEST(RunToPlan, ReadsAConfigOfTrain) {
  const RunToPlan run = read_run(with(
      R"("compute": "float64", "steps": 5, "data": {"batch": 3},
         "model": {"layers": 6, "hidden": 64, "heads": 4, "kv_heads": 2,
                   "pattern": "LLN", "linear": {"kind": "gla"}},
         "parallel": {"topology": "dgx-1", "memory_limit_bytes": 0,
                      "message_overhead_seconds": 1e-6})"));
  EXPECT_EQ(run.model.layers, 6);
  EXPECT_EQ(run.model.head_dim, 16);
  EXPECT_EQ(run.model.linear.kind(), "gla");
  EXPECT_EQ(run.compute, ElementType::float64);
  EXPECT_EQ(run.batch, 3);
  EXPECT_EQ(run.topology, "dgx-1");
  EXPECT_EQ(run.message_overhead_seconds, 1e-6);
  EXPECT_EQ(run.memory_limit_bytes, std::nullopt);
  EXPECT_EQ(run.device_table, std::nullopt);
}

TEST(RunToPlan, DefaultsOfTrainAreNothingThatTheFileSays) {
  const RunToPlan silent = read_run(with(R"("model": {"heads": 2})"));
  EXPECT_EQ(silent.seq_len, std::nullopt);
  EXPECT_EQ(silent.ranks, std::nullopt);
  EXPECT_EQ(silent.layout, std::nullopt);
  const RunToPlan run = read_run(with(R"("data": {"seq_len": 1024},
      "parallel": {"ranks": 1, "layout": "zigzag"})"));
  EXPECT_EQ(run.seq_len, 1024);
  EXPECT_EQ(run.ranks, 1);
  EXPECT_EQ(run.layout, "zigzag");
  EXPECT_EQ(run.model, ModelConfig{});
}

TEST(RunToPlan, ReadsAModelObjectWithTrainsDefaults) {
  const RunToPlan run = read_run(R"({"hidden": 128})");
  EXPECT_EQ(run.model, ModelConfig{});
  EXPECT_EQ(run.compute, ElementType::bfloat16);
  EXPECT_EQ(run.batch, 1);
  EXPECT_EQ(run.seq_len, std::nullopt);
}

TEST(RunToPlan, UnknownKeysAreErrorsNamingTheNearest) {
  const auto fails = [](const std::string& text, const char* words) {
    EXPECT_THAT([&] { read_run(text); },
                ThrowsMessage<InvalidArgument>(HasSubstr(words)))
        << text;
  };
  fails(R"({})", "[f] got {}; want a config of train, or a model object");
  fails(R"({"heds": 4})", R"([f] got the unknown key "heds"; want "heads"?)");
  fails(R"({"linear": {"gate_rank": 4}})", R"(unknown key "gate_rank")");
  fails(R"({"model": {"heads": 4}})", "[f.format] got nothing");
  fails(with(R"("modle": {})"), R"("modle"; want "model"?)");
  fails(with(R"("model": {"head_dims": 8})"), R"("head_dim"?)");
  fails(with(R"("data": {"bach": 8})"), R"("batch"?)");
  fails(with(R"("optimizer": {"epsilon": 8})"), R"("eps"?)");
  EXPECT_NO_THROW(
      read_run(with(R"("parallel": {"ranks": 2}, "threads": 1, "seed": 7,
              "model": {"vocab_size": 300, "norm_eps": 1e-6,
                        "linear": {"kind": "gla", "gate_rank": 4}})")));
}

TEST(RunToPlan, NamesTheFieldThatIsWrong) {
  const auto fails = [](const char* text, const char* words) {
    EXPECT_THAT([&] { read_run(text); },
                ThrowsMessage<InvalidArgument>(HasSubstr(words)));
  };
  fails(R"({"heads": 3, "hidden": 64})", "f.head_dim");
  fails(R"({"heads": 4, "kv_heads": 3})", "3 kv_heads");
  fails(R"({"pattern": "LNX"})", "LNX");
  fails(R"({"linear": {"kind": "mamba"}})", "mamba");
}

}  // namespace
}  // namespace ringweave::config
