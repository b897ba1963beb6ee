#include "ringweave/config/train_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave::config {
namespace {

using ::testing::HasSubstr;

/// A config from the fields that stand after the format.
TrainConfig read_train(const std::string& fields) {
  const std::string text = R"({"format": "ringweave.config", "version": 1)" +
                           (fields.empty() ? "" : ", " + fields) + "}";
  return config_from_json(parse_json(text, "t"), "config");
}

/// The text of what reading and checking throws; a file is given.
std::string refused_train(const std::string& fields) {
  try {
    TrainConfig config = read_train(fields);
    if (config.data.files.empty()) config.data.files = {"text"};
    check(config);
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown for " << fields;
  return "";
}

TEST(TrainConfig, EverythingButTheFormatHasADefault) {
  TrainConfig config = read_train("");
  EXPECT_EQ(config, TrainConfig{});
  EXPECT_THROW(check(config), InvalidArgument);  // no text
  config.data.files = {"text"};
  EXPECT_NO_THROW(check(config));
  EXPECT_THROW(config_from_json(Json::object(), "config"), InvalidArgument);
}

TEST(TrainConfig, TheResolvedConfigReadsBackAsItself) {
  const TrainConfig config = read_train(R"(
      "model": {"hidden": 64, "heads": 2, "pattern": "LN",
                "linear": {"kind": "gla"}},
      "data": {"files": ["a", "b"], "validation_files": ["c"],
               "validation_fraction": 0.25, "seq_len": 1021, "batch": 3},
      "optimizer": {"learning_rate": 0.01, "min_lr_ratio": 0.2,
                    "warmup_steps": 7, "beta1": 0.8, "beta2": 0.99,
                    "eps": 1e-9, "weight_decay": 0.3, "clip_norm": 0.5},
      "steps": 17, "seed": 3, "compute": "float64",
      "parallel": {"ranks": 5, "layout": "contiguous", "softmax": "direct:2",
                   "linear": "chain", "memory_limit_bytes": 0,
                   "message_overhead_seconds": 0, "grad_payload": "compute"},
      "validation": {"every": 10, "batches": 4},
      "time_outs": {"start_seconds": 2.5, "step_seconds": 12},
      "threads": 2)");
  EXPECT_NO_THROW(check(config));
  EXPECT_EQ(config_from_json(to_json(config), "again"), config);
  EXPECT_EQ(config.parallel.ranks, 5);
  EXPECT_EQ(config.optimizer.beta2, 0.99);
  EXPECT_EQ(config.time_outs.start_seconds, 2.5);
  EXPECT_EQ(config.compute, ElementType::float64);
  EXPECT_EQ(config.model.linear.kind(), "gla");
}

TEST(TrainConfig, UnknownKeysNameTheNearestInEverySection) {
  EXPECT_THAT(refused_train(R"("modle": {})"),
              HasSubstr("[config] got the unknown key \"modle\"; want "
                        "\"model\"?"));
  EXPECT_THAT(refused_train(R"("model": {"layer": 3})"),
              HasSubstr("\"layers\"?"));
  EXPECT_THAT(refused_train(R"("data": {"seqlen": 3})"),
              HasSubstr("\"seq_len\"?"));
  EXPECT_THAT(refused_train(R"("optimizer": {"learning-rate": 3})"),
              HasSubstr("[config.optimizer] got the unknown key "
                        "\"learning-rate\"; want \"learning_rate\"?"));
  EXPECT_THAT(refused_train(R"("parallel": {"rank": 3})"),
              HasSubstr("\"ranks\"?"));
  EXPECT_THAT(refused_train(R"("parallel": {"device": "cpu"})"),
              HasSubstr("\"device_table\"?"));
  EXPECT_THAT(refused_train(R"("validation": {"evry": 3})"),
              HasSubstr("\"every\"?"));
  EXPECT_THAT(refused_train(R"("time_outs": {"step": 3})"),
              HasSubstr("\"step_seconds\"?"));
}

TEST(TrainConfig, EachFaultIsOneClearError) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"("steps": -1)", "[config.steps] got -1; want an integer ≥ 0"},
      {R"("steps": 10.0)", "[config.steps] got 10.0"},
      {R"("compute": "float16")", "want one of \"bfloat16"},
      {R"("data": {"seq_len": 0})", "[config.data.seq_len] got 0"},
      {R"("model": {"max_position_embeddings": 100}, "data": {"seq_len": 101})",
       "[data.seq_len] got 101; want at most 100"},
      {R"("init": {"form": "a"})", "\"from\"?"},
      {R"("init": {"skip": ["a"]})", "[init.skip] got 1 names and no"},
      {R"("data": {"batch": 0})", "[config.data.batch] got 0"},
      {R"("data": {"validation_fraction": 1})",
       "[data.validation_fraction] got 1"},
      {R"("data": {"files": "text"})", "want a list of strings"},
      {R"("optimizer": {"beta1": 1})", "[optimizer.beta1] got 1"},
      {R"("optimizer": {"eps": 0})", "[optimizer.eps] got 0"},
      {R"("optimizer": {"min_lr_ratio": 2})", "[optimizer.min_lr_ratio] got 2"},
      {R"("optimizer": {"learning_rate": -1})", "got -1; want a finite number"},
      {R"("parallel": {"data": 0})", "[config.parallel.data] got 0"},
      {R"("parallel": {"ranks": 4, "data": 3})", "ranks = sequence"},
      {R"("parallel": {"ranks": 4, "sequence": 2})", "ranks = sequence"},
      {R"("parallel": {"ranks": 4, "sequence": 3, "data": 2})",
       "got 4 ranks with sequence 3 and data 2"},
      {R"("data": {"batch": 4}, "parallel": {"data": 2, "accumulation": 3})",
       "[data.batch] got 4; want a multiple of 6"},
      {R"("parallel": {"shard_optimizer": 1})", "shard_optimizer"},
      {R"("parallel": {"ranks": 0})", "[config.parallel.ranks] got 0"},
      {R"("parallel": {"ranks": 4294967297})", "want at most 2147483647"},
      {R"("parallel": {"layout": "zagzig"})", "want one of \"zigzag\""},
      {R"("parallel": {"grad_payload": "bf16"})", "\"compute\""},
      {R"("parallel": {"memory_limit_bytes": -1})",
       "[config.parallel.memory_limit_bytes] got -1"},
      {R"("parallel": {"memory_limit_bytes": "8 GB"})", "a finite number"},
      {R"("parallel": {"message_overhead_seconds": -1e-6})",
       "[config.parallel.message_overhead_seconds] got"},
      {R"("parallel": {"message_overhead": 1e-6})",
       "want \"message_overhead_seconds\"?"},
      {R"("parallel": {"layout": "striped"})",
       "[parallel.layout] got \"striped\" with linear layers"},
      {R"("data": {"documents": "pack"})", "\"reset\""},
      {R"("data": {"format": "csv"})", "json_lines"},
      {R"("data": {"end_token": -1})", "end_token"},
      {R"("model": {"sliding_windows": [3, -1]})", "sliding_windows] got -1"},
      {R"("model": {"pattern": "L", "sliding_windows": [3]})",
       "got 1 of them for 0 softmax layers"},
      {R"("model": {"sliding_windows": [4611686018427387904]})",
       "sliding_windows] got 4611686018427387904"},
      {R"("parallel": {"bucket_bytes": 9223372036854775807})",
       "bucket_bytes] got"},
      {R"("model": {"causal": 1})", "causal"},
      {R"("model": {"causal": false, "sliding_windows": [3]})",
       "sliding_windows] got 1 of them with causal false"},
      {R"("model": {"causal": false, "linear": {"kind": "gla"}})",
       "linear.kind] got gla with causal false; want a family without decay"},
      {R"("model": {"causal": false, "linear": {"convolution": 4}})",
       "linear.convolution] got 4 with causal false"},
      {R"("model": {"causal": false})",
       "[model.vocab_size] got 256; want more than 257"},
      {R"("model": {"causal": false}, "data": {"mask_token": 256})",
       "[model.vocab_size] got 256; want more than 256"},
      {R"("model": {"causal": false, "vocab_size": 258},
          "data": {"documents": "reset"})",
       "[data.documents] got reset in an encoder"},
      {R"("model": {"causal": false, "vocab_size": 258},
          "data": {"mask_fraction": 0})",
       "[data.mask_fraction] got 0"},
      {R"("model": {"causal": false, "vocab_size": 258},
          "data": {"mask_fraction": 1.5})",
       "[data.mask_fraction] got 1.5"},
      {R"("data": {"mask_fraction": 0.2})",
       "[data] got mask_fraction in a model with causal true"},
      {R"("data": {"mask_token": 3})",
       "[data] got mask_token in a model with causal true"},
      {R"("time_outs": {"step_seconds": 0})", "[time_outs] got 0 s"},
      {R"("threads": -1)", "[config.threads] got -1"},
      {R"("threads": 1025)", "[threads] got 1025; want 0 … 1024"},
      {R"("seed": -1)", "[config.seed] got -1"},
  };
  for (const auto& [fields, text] : cases) {
    EXPECT_THAT(refused_train(fields), HasSubstr(text)) << fields;
  }
  EXPECT_NO_THROW(check([] {
    TrainConfig config = read_train(R"("parallel": {"layout": "striped"},
                                 "model": {"pattern": "N"})");
    config.data.files = {"text"};
    return config;
  }()));
}

TEST(TrainConfig, ExamplesOfTheProjectAreValid) {
  for (const char* name : {"quickstart.json", "hybrid-larger.json"}) {
    TrainConfig config = read_config(std::string(RINGWEAVE_CONFIGS "/") + name);
    EXPECT_FALSE(config.data.files.empty());
    EXPECT_NO_THROW(check(config)) << name;
    EXPECT_TRUE(config.model.has_linear());
    EXPECT_TRUE(config.model.has_softmax());
  }
}

TEST(TrainConfig, RanksAreGroupsOfRanks) {
  const auto ranks = [](const std::string& parallel) {
    const ParallelConfig config =
        read_train(R"("data": {"files": ["a"], "batch": 12}, "parallel": )" +
                   parallel)
            .parallel;
    return std::vector{config.ranks, config.sequence_ranks(), config.data};
  };
  EXPECT_EQ(ranks("{}"), (std::vector{1, 1, 1}));
  EXPECT_EQ(ranks(R"({"ranks": 6})"), (std::vector{6, 6, 1}));
  EXPECT_EQ(ranks(R"({"ranks": 6, "data": 3})"), (std::vector{6, 2, 3}));
  EXPECT_EQ(ranks(R"({"sequence": 2, "data": 3})"), (std::vector{6, 2, 3}));
  EXPECT_EQ(ranks(R"({"sequence": 5})"), (std::vector{5, 5, 1}));
  EXPECT_EQ(ranks(R"({"data": 3})"), (std::vector{3, 1, 3}));
}

}  // namespace
}  // namespace ringweave::config
