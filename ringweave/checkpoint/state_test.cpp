#include "ringweave/checkpoint/state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave::checkpoint {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

State state() {
  return {.step = 100,
          .samples = 400,
          .parts = 4,
          .data = "d0",
          .config = Json::parse(R"({
              "model": {"hidden": 32}, "steps": 200, "threads": 0,
              "data": {"files": ["a", "b"], "batch": 4},
              "parallel": {"ranks": 4, "grad_payload": "float32"}})"),
          .versions = {{"ringweave", "1"}}};
}

std::string refusal(const char* pointer, const Json& value,
                    const std::string& data = "d0") {
  Json config = state().config;
  config[Json::json_pointer(pointer)] = value;
  try {
    check_resumable(state(), "FOLDER", config, data);
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(), HasSubstr("FOLDER"));
    return error.what();
  }
  return "accepted";
}

TEST(State, JsonRoundTrip) {
  const Json json = to_json(state());
  EXPECT_EQ(to_json(state_from_json(json, "state")), json);
  Json bad = json;
  bad["parts"] = 0;
  EXPECT_THROW(state_from_json(bad, "state"), InvalidArgument);
  bad = json;
  bad["config"] = 3;
  EXPECT_THROW(state_from_json(bad, "state"), InvalidArgument);
}

TEST(State, SomeFieldsMayDiffer) {
  for (const auto& [field, value] : std::vector<std::pair<const char*, Json>>{
           {"/parallel/ranks", 3},
           {"/parallel/layout", "zigzag"},
           {"/steps", 300},
           {"/threads", 2},
           {"/data/files", {"c"}},
           {"/data/files", Json::array()},
           {"/checkpoint/keep_last", 3},
           {"/time_outs/step_seconds", 3}}) {
    EXPECT_EQ(refusal(field, value), "accepted") << field;
  }
}

TEST(State, OthersAreNamed) {
  EXPECT_THAT(refusal("/model/hidden", 64),
              HasSubstr("got model.hidden 64; want 32"));
  EXPECT_THAT(refusal("/data/batch", 8), HasSubstr("data.batch 8; want 4"));
  EXPECT_THAT(refusal("/parallel/grad_payload", "compute"),
              HasSubstr("parallel.grad_payload"));
  EXPECT_THAT(refusal("/model/new", 1),
              AllOf(HasSubstr("model.new 1"), HasSubstr("want none")));
  EXPECT_THAT(refusal("/steps", 200, "d1"), HasSubstr("data of hash d1"));
}

}  // namespace
}  // namespace ringweave::checkpoint
