#include "ringweave/plan/model_shape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave::plan {
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
  const ModelShape shape = model_shape_from_json(Json::object(), "model");
  EXPECT_EQ(shape.layers, 4);
  EXPECT_EQ(shape.pattern, "LLLN");
  EXPECT_EQ(shape.linear_kind, "basic");
  EXPECT_TRUE(shape.normaliser);
  EXPECT_EQ(shape.state_numbers(), 4 * 32 * 33);
  EXPECT_EQ(saved_model_shape(to_json(shape), "plan"), shape);
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
}  // namespace ringweave::plan
