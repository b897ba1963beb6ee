#include "ringweave/cli/override.h"

#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave::cli {
namespace {

Json overridden(const char* config, const std::string& assignment) {
  Json json = Json::parse(config);
  apply_override(json, assignment);
  return json;
}

TEST(Override, SetsNestedAndTopFields) {
  EXPECT_EQ(overridden(R"({"a": {"b": 1, "c": 2}})", "a.b=7").dump(),
            R"({"a":{"b":7,"c":2}})");
  EXPECT_EQ(overridden(R"({"a": 1})", "steps=5").dump(),
            R"({"a":1,"steps":5})");
  EXPECT_EQ(overridden("{}", "a.b.c=true").dump(), R"({"a":{"b":{"c":true}}})");
}

TEST(Override, ValuesAreJsonOrWords) {
  EXPECT_EQ(overridden("{}", "a=1e-3")["a"], 1e-3);
  EXPECT_EQ(overridden("{}", "a=[\"x\", 2]")["a"].size(), 2U);
  EXPECT_EQ(overridden("{}", "a=LLLN")["a"], "LLLN");
  EXPECT_EQ(overridden("{}", "a=\"7\"")["a"], "7");
  EXPECT_EQ(overridden("{}", "a=")["a"], "");
  EXPECT_EQ(overridden("{}", "a=b=c")["a"], "b=c");
}

TEST(Override, RefusesWhatIsNoAssignment) {
  EXPECT_THROW(overridden("{}", "a"), InvalidArgument);
  EXPECT_THROW(overridden("{}", "=1"), InvalidArgument);
  EXPECT_THROW(overridden("{}", "a..b=1"), InvalidArgument);
  EXPECT_THROW(overridden("{}", "a.=1"), InvalidArgument);
  EXPECT_THROW(overridden(R"({"a": 3})", "a.b=1"), InvalidArgument);
  EXPECT_THROW(overridden("[]", "a=1"), InvalidArgument);
}

}  // namespace
}  // namespace ringweave::cli
