#include "ringweave/base/json.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "ringweave/base/error.h"

namespace ringweave {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// The text of the InvalidArgument that `call` throws.
template <typename Call>
std::string refusal(Call call) {
  try {
    call();
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

TEST(Json, AnErrorAboutBytesThatAreNoTextIsText) {
  try {
    parse_json("{\"a\": \"b\xff\"}", "t.json");
    ADD_FAILURE() << "nothing was thrown";
  } catch (const InvalidArgument& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("ill-formed UTF-8"), text.npos) << text;
    EXPECT_EQ(text.find('\xff'), text.npos);
  }
}

TEST(ParseJson, KeepsTheOrderOfKeys) {
  const Json json = parse_json(R"({"z": 1, "a": [2, null]})", "text");
  EXPECT_EQ(json.dump(), R"({"z":1,"a":[2,null]})");
}

TEST(ParseJson, SyntaxErrorNamesFileLineAndColumn) {
  const auto text =
      refusal([] { parse_json("{\n  \"a\": 1,\n  b\n}", "x.json"); });
  EXPECT_THAT(text, HasSubstr("[x.json]"));
  EXPECT_THAT(text, HasSubstr("line 3, column 3"));
}

TEST(ParseJson, RefusesWhatIsNotStrictJson) {
  for (const std::string bad :
       {"", "{", "{} {}", "[1,]", "{'a': 1}", "{\"a\": NaN}", "{\"a\": 1e999}",
        "[Infinity]", "// note\n{}", "\"\xff\""}) {
    EXPECT_THROW(parse_json(bad, "text"), InvalidArgument) << bad;
  }
}

TEST(ParseJson, RefusesADoubledKeyButNotOneOfAnotherObject) {
  EXPECT_THAT(refusal([] { parse_json(R"({"a": {"b": 1, "b": 2}})", "t"); }),
              HasSubstr(R"(got the key "b" twice)"));
  EXPECT_NO_THROW(
      parse_json(R"({"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]})", "t"));
}

TEST(ParseJson, RefusesWhatIsNestedTooDeep) {
  const auto nested = [](int depth) {
    std::string text(depth, '[');
    text.append(depth, ']');
    return text;
  };
  EXPECT_NO_THROW(parse_json(nested(100), "t"));
  EXPECT_THAT(refusal([&] { parse_json(nested(101), "deep.json"); }),
              HasSubstr("[deep.json] got values nested more than 100 deep"));
  std::string objects;
  for (int i = 0; i < 30000; ++i) objects += R"({"a":[)";
  EXPECT_THAT(refusal([&] { parse_json(objects, "deep.json"); }),
              HasSubstr("at most 100 levels"));
}

TEST(ReadJsonFile, ReadsAndNamesWhatItCannotRead) {
  const auto folder = std::filesystem::temp_directory_path() /
                      fmt::format("ringweave_json_test_{}", ::getpid());
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "good.json") << "{\"a\": 1}";
  std::ofstream(folder / "empty.json").flush();
  EXPECT_EQ(read_json_file((folder / "good.json").string())["a"], 1);
  EXPECT_THAT(refusal([&] { read_json_file((folder / "no.json").string()); }),
              HasSubstr("no.json] got No such file"));
  EXPECT_THAT(refusal([&] { read_json_file(folder.string()); }),
              HasSubstr("want a readable JSON file"));
  EXPECT_THAT(
      refusal([&] { read_json_file((folder / "empty.json").string()); }),
      HasSubstr("empty.json] got a syntax error at line 1, column 1"));
  std::filesystem::remove_all(folder);
}

TEST(Nearest, FindsWhatWasMeant) {
  const std::vector<std::string> known = {"heads", "kv_heads", "hidden",
                                          "warmup_steps", "learning_rate"};
  EXPECT_EQ(nearest("hiden", known), "hidden");
  EXPECT_EQ(nearest("ehads", known), "heads");
  EXPECT_EQ(nearest("kvheads", known), "kv_heads");
  EXPECT_EQ(nearest("warmup", known), "warmup_steps");
  EXPECT_EQ(nearest("learning-rate", known), "learning_rate");
  EXPECT_EQ(nearest("zebra", known), std::nullopt);
  EXPECT_EQ(nearest("heads", {}), std::nullopt);
}

TEST(JsonObject, ReadsEveryType) {
  const Json json = parse_json(
      R"({"i": -3, "n": 2.5, "whole": 4, "b": true, "s": "x", "c": "two",
          "is": [1, 2], "ss": ["p", "q"], "o": {"i": 7}, "raw": [null]})",
      "t");
  JsonObject object(json, "t");
  EXPECT_EQ(object.integer("i", -5), -3);
  EXPECT_EQ(object.number("n", 0), 2.5);
  EXPECT_EQ(object.number("whole", 0), 4.0);
  EXPECT_TRUE(object.boolean("b"));
  EXPECT_EQ(object.string("s"), "x");
  EXPECT_EQ(object.choice("c", {"one", "two"}), "two");
  EXPECT_THAT(object.integers("is"), ElementsAre(1, 2));
  EXPECT_THAT(object.strings("ss"), ElementsAre("p", "q"));
  JsonObject inner = object.object("o");
  EXPECT_EQ(inner.path(), "t.o");
  EXPECT_EQ(inner.integer("i", 0), 7);
  EXPECT_TRUE(object.value("raw").is_array());
  EXPECT_NO_THROW(object.done());
  EXPECT_NO_THROW(inner.done());
}

TEST(JsonObject, AbsentFieldsTakeTheirDefaultOrAreErrors) {
  const Json json = Json::object();
  JsonObject object(json, "t");
  EXPECT_EQ(object.integer("i", 1, 5), 5);
  EXPECT_EQ(object.number("n", 0, 0.5), 0.5);
  EXPECT_EQ(object.boolean("b", false), false);
  EXPECT_EQ(object.string("s", "d"), "d");
  EXPECT_EQ(object.choice("c", {"one"}, "one"), "one");
  EXPECT_THAT(object.integers("is", std::vector<std::int64_t>{}), IsEmpty());
  EXPECT_THAT(object.strings("ss", std::vector<std::string>{"d"}),
              ElementsAre("d"));
  EXPECT_EQ(object.object("o").integer("x", 0, 9), 9);
  for (const std::string& text :
       {refusal([&] { object.integer("gone", 1); }),
        refusal([&] { object.number("gone", 1); }),
        refusal([&] { object.boolean("gone"); }),
        refusal([&] { object.string("gone"); }),
        refusal([&] { object.choice("gone", {"one"}); }),
        refusal([&] { object.integers("gone"); }),
        refusal([&] { object.strings("gone"); }),
        refusal([&] { object.value("gone"); })}) {
    EXPECT_THAT(text, HasSubstr("[t.gone] got nothing; want this key"));
  }
}

TEST(JsonObject, AMisspeltKeyWithoutDefaultIsNamed) {
  const Json json = parse_json(R"({"from": "a", "bytes_per_sec": 1})", "t");
  JsonObject object(json, "t");
  object.string("from");
  EXPECT_EQ(refusal([&] { object.number("bytes_per_second", 0); }),
            "[t.bytes_per_second] got nothing, but there is \"bytes_per_sec\"; "
            "want this key; it has no default");
  // Keys that were asked for are not misspelt.
  EXPECT_THAT(refusal([&] { object.string("form"); }),
              HasSubstr("[t.form] got nothing; want this key"));
}

TEST(JsonObject, IntegersAreNotFloatsAndStayInRange) {
  const Json json = parse_json(
      R"({"f": 3.0, "e": 1e3, "s": "3", "big": 18446744073709551615, "low": 0,
          "list": [1, 2.0], "no_list": 3})",
      "t");
  JsonObject object(json, "t");
  EXPECT_THAT(refusal([&] { object.integer("f", 1); }),
              HasSubstr("[t.f] got 3.0; want an integer ≥ 1, written without "
                        "point or exponent"));
  EXPECT_THAT(refusal([&] { object.integer("e", 1); }),
              HasSubstr("[t.e] got 1000.0"));
  EXPECT_THAT(refusal([&] { object.integer("s", 1); }),
              HasSubstr("[t.s] got \"3\"; want an integer ≥ 1"));
  EXPECT_THAT(refusal([&] { object.integer("big", 1); }),
              HasSubstr("[t.big] got 18446744073709551615"));
  EXPECT_THAT(refusal([&] { object.integer("low", 1); }),
              HasSubstr("[t.low] got 0; want an integer ≥ 1"));
  EXPECT_THAT(refusal([&] { object.integers("list"); }),
              HasSubstr("[t.list[1]] got 2.0"));
  EXPECT_THAT(refusal([&] { object.integers("no_list"); }),
              HasSubstr("[t.no_list] got 3; want a list of integers"));
}

TEST(JsonObject, NumbersAreFinite) {
  Json json = {{"nan", std::nan("")},
               {"inf", std::numeric_limits<double>::infinity()},
               {"low", -1.0},
               {"null", nullptr},
               {"flag", true}};
  JsonObject object(json, "t");
  EXPECT_THAT(refusal([&] { object.number("nan", 0); }),
              HasSubstr("[t.nan] got nan; want a finite number ≥ 0"));
  EXPECT_THAT(refusal([&] { object.number("inf", 0); }),
              HasSubstr("[t.inf] got inf"));
  EXPECT_THAT(refusal([&] { object.number("low", 0); }),
              HasSubstr("[t.low] got -1.0; want a finite number ≥ 0"));
  EXPECT_THAT(refusal([&] { object.number("null", 0); }),
              HasSubstr("[t.null] got null"));
  EXPECT_THAT(refusal([&] { object.number("flag", 0); }),
              HasSubstr("[t.flag] got true"));
}

TEST(JsonObject, OtherTypesAreRefused) {
  const Json json = parse_json(
      R"({"b": 1, "s": 2, "c": "thre", "c2": 4, "ss": ["a", 5], "o": []})",
      "t");
  JsonObject object(json, "t");
  EXPECT_THAT(refusal([&] { object.boolean("b"); }),
              HasSubstr("[t.b] got 1; want true or false"));
  EXPECT_THAT(refusal([&] { object.string("s"); }),
              HasSubstr("[t.s] got 2; want a string"));
  EXPECT_THAT(refusal([&] {
                object.choice("c", {"one", "three"});
              }),
              HasSubstr("[t.c] got \"thre\"; want one of \"three\", \"one\""));
  EXPECT_THAT(refusal([&] { object.choice("c2", {"one"}); }),
              HasSubstr("[t.c2] got 4; want one of \"one\""));
  EXPECT_THAT(refusal([&] { object.strings("ss"); }),
              HasSubstr("[t.ss[1]] got 5; want a string"));
  EXPECT_THAT(refusal([&] { object.object("o"); }),
              HasSubstr("[t.o] got []; want an object"));
  EXPECT_THAT(refusal([] { JsonObject(Json(3), "top"); }),
              HasSubstr("[top] got 3; want an object"));
}

TEST(JsonObject, NamesArePrintableAndNotEmpty) {
  const Json json = {{"good", "NV2 \u00e9\u00a0x"},
                     {"empty", ""},
                     {"escape", "\x1b[31mred"},
                     {"newline", "a\nb"},
                     {"delete", "\x7f"},
                     {"c1", "\u009b31m"}};
  JsonObject object(json, "t");
  EXPECT_EQ(object.name("good"), "NV2 \u00e9\u00a0x");
  EXPECT_EQ(object.name("absent", "link"), "link");
  EXPECT_EQ(object.line("empty"), "");
  EXPECT_THAT(refusal([&] { object.name("empty"); }),
              HasSubstr("[t.empty] got \"\"; want a name"));
  for (const char* key : {"escape", "newline", "delete", "c1"}) {
    EXPECT_THAT(refusal([&] { object.name(key); }),
                HasSubstr("want no control characters"));
    EXPECT_THROW(object.line(key), InvalidArgument) << key;
  }
}

TEST(JsonObject, AnUnknownKeyNamesTheNearestKnownOne) {
  const Json json = parse_json(R"({"heads": 4, "hiden": 8})", "t");
  JsonObject object(json, "config.model");
  object.integer("heads", 1);
  object.integer("hidden", 1, 4);
  EXPECT_THAT(refusal([&] { object.done(); }),
              HasSubstr("[config.model] got the unknown key \"hiden\"; want "
                        "\"hidden\"?"));
  const Json other = parse_json(R"({"zebra": 1})", "t");
  JsonObject far(other, "t");
  far.integer("heads", 1, 1);
  far.integer("layers", 1, 1);
  EXPECT_THAT(refusal([&] { far.done(); }),
              HasSubstr("want one of \"heads\", \"layers\""));
}

TEST(JsonObject, LongValuesAreCutInErrors) {
  const Json json = {{"s", std::vector<int>(1000, 7)}};
  JsonObject object(json, "t");
  EXPECT_LT(refusal([&] { object.string("s"); }).size(), 120u);
}

TEST(CheckFormat, WantsBothFields) {
  const auto check = [](const char* text) {
    const Json json = parse_json(text, "t");
    JsonObject object(json, "f");
    check_format(object, "ringweave.plan", 1);
    object.done();
  };
  EXPECT_NO_THROW(check(R"({"format": "ringweave.plan", "version": 1})"));
  EXPECT_THAT(refusal([&] { check(R"({"version": 1})"); }),
              HasSubstr("[f.format] got nothing"));
  EXPECT_THAT(refusal([&] {
                check(R"({"format": "ringweave.config", "version": 1})");
              }),
              HasSubstr("[f.format] got \"ringweave.config\"; want "
                        "\"ringweave.plan\""));
  EXPECT_THAT(
      refusal([&] { check(R"({"format": "ringweave.plan", "version": 2})"); }),
      HasSubstr("[f.version] got 2; want 1, the one this program reads"));
}

}  // namespace
}  // namespace ringweave
