#include "ringweave/planner/cost/model_shape.h"

#include <cstdint>
#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave::planner {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(ModelShape, ReadsAConfigOfTrain) {
  const Json json = Json::parse(
      R"({"format": "ringweave.config", "version": 1, "compute": "bfloat16",
          "model": {"layers": 6, "hidden": 64, "heads": 4, "kv_heads": 2,
                    "pattern": "LLN", "linear": {"kind": "gla"}},
          "data": {"batch": 3, "seq_len": 100}, "steps": 5})");
  const ModelShape shape = model_shape_from_json(json, "config");
  EXPECT_EQ(shape.softmax_layers(), 2);
  EXPECT_EQ(shape.linear_layers(), 4);
  EXPECT_EQ(shape.head_dim, 16);
  EXPECT_EQ(shape.kv_token_bytes(), 2 * 3 * 2 * 16 * 2);
  EXPECT_EQ(shape.grad_token_bytes(), 2 * 3 * 2 * 16 * 4);
  EXPECT_EQ(shape.state_numbers(), 3 * 4 * 16 * 16);
  EXPECT_EQ(shape.decay_numbers(), 3 * 4 * 16);
  EXPECT_EQ(saved_model_shape(to_json(shape), "plan"), shape);
}

TEST(ModelShape, ReadsAModelObjectWithTrainsDefaults) {
  const ModelShape shape = model_shape_from_json({{"hidden", 128}}, "model");
  EXPECT_EQ(shape.layers, 4);
  EXPECT_EQ(shape.pattern, "LLLN");
  EXPECT_EQ(shape.linear_kind, "basic");
  EXPECT_TRUE(shape.normaliser);
  EXPECT_EQ(shape.state_numbers(), 4 * 32 * 33);
  EXPECT_EQ(saved_model_shape(to_json(shape), "plan"), shape);
}

TEST(ModelShape, CountsLayersByPeriods) {
  ModelShape shape{.layers = 11, .pattern = "NLLN"};
  EXPECT_EQ(shape.softmax_layers(), 5);
  shape.layers = 2;
  EXPECT_EQ(shape.softmax_layers(), 1);
  // Ends at once: a loop over the layers would take centuries.
  shape.layers = std::int64_t{1} << 60;
  EXPECT_EQ(shape.softmax_layers(), std::int64_t{1} << 59);
}

TEST(ModelShape, EveryProductFitsInt64) {
  const auto fails = [](ModelShape shape, const char* words,
                        std::int64_t tokens = 1) {
    EXPECT_THAT([&] { check(shape, "m", tokens); },
                ThrowsMessage<InvalidArgument>(HasSubstr(words)));
  };
  constexpr auto kHuge = std::numeric_limits<std::int64_t>::max();
  fails({.layers = kHuge}, "[m.layers] got 9223372036854775807; want 1 … ");
  fails({.heads = kHuge, .kv_heads = kHuge}, "[m.heads] got 922");
  fails({.kv_heads = kHuge}, "[m.kv_heads] got 922");
  fails({.head_dim = std::int64_t{1} << 62}, "[m.head_dim] got 4611686");
  fails({.batch = kHuge}, "[m.batch] got 922");
  // Each fits, the product does not.
  fails({.heads = 1 << 20, .head_dim = 1 << 16}, "heads 1048576, head_dim");
  const ModelShape large{.heads = 128, .head_dim = 256, .batch = 1024};
  EXPECT_NO_THROW(check(large, "m", 1 << 20));
  fails(large, "67108864 tokens; want batch x heads", 1 << 26);
  fails({}, "1099511627776 tokens; want at most 2147483648",
        std::int64_t{1} << 40);
}

TEST(ModelShape, UnknownKeysAreErrorsNamingTheNearest) {
  const auto fails = [](const char* text, const char* words) {
    EXPECT_THAT([&] { model_shape_from_json(Json::parse(text), "f"); },
                ThrowsMessage<InvalidArgument>(HasSubstr(words)));
  };
  fails(R"({})", "[f] got {}; want a config of train, or a model object");
  fails(R"({"heds": 4})", R"([f] got the unknown key "heds"; want "heads"?)");
  fails(R"({"linear": {"gate_rank": 4}})", R"(unknown key "gate_rank")");
  fails(R"({"model": {"heads": 4}})", "[f.format] got nothing");
  const auto with = [](const std::string& field) {
    return R"({"format": "ringweave.config", "version": 1, )" + field + "}";
  };
  fails(with(R"("modle": {})").c_str(), R"("modle"; want "model"?)");
  fails(with(R"("model": {"head_dims": 8})").c_str(), R"("head_dim"?)");
  fails(with(R"("data": {"bach": 8})").c_str(), R"("batch"?)");
  EXPECT_NO_THROW(model_shape_from_json(
      Json::parse(with(R"("parallel": {"ranks": 2}, "threads": 1, "seed": 7,
                          "model": {"vocab_size": 300, "norm_eps": 1e-6,
                                    "linear": {"kind": "gla",
                                               "gate_rank": 4}})")),
      "f"));
}

TEST(ModelShape, NamesTheFieldThatIsWrong) {
  const auto read = [](const char* text) {
    return [text] { model_shape_from_json(Json::parse(text), "model"); };
  };
  EXPECT_THAT(read(R"({"heads": 3, "hidden": 64})"),
              ThrowsMessage<InvalidArgument>(HasSubstr("model.head_dim")));
  EXPECT_THAT(read(R"({"heads": 4, "kv_heads": 3})"),
              ThrowsMessage<InvalidArgument>(HasSubstr("3 kv_heads")));
  EXPECT_THAT(read(R"({"pattern": "LNX"})"),
              ThrowsMessage<InvalidArgument>(HasSubstr("LNX")));
  EXPECT_THAT(read(R"({"linear": {"kind": "mamba"}})"),
              ThrowsMessage<InvalidArgument>(HasSubstr("mamba")));
}

}  // namespace
}  // namespace ringweave::planner
