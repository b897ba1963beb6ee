#include "ringweave/checkpoint/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/checkpoint/test_folder.h"

namespace ringweave::checkpoint {
namespace {

using ::testing::HasSubstr;

template <typename Call>
std::string refusal(const Call& call) {
  try {
    call();
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "accepted";
}

TEST(DurableFile, SumsAreOfAllBytes) {
  const TestFolder folder("durable");
  DurableFile file(folder.file("a"));
  file.write(std::as_bytes(std::span(std::string_view("some "))));
  file.write(std::as_bytes(std::span(std::string_view("text"))));
  const FileSum sum = file.finish();
  EXPECT_EQ(content(folder.file("a")), "some text");
  EXPECT_EQ(sum, write_durable(folder.file("b"), "some text"));
  EXPECT_EQ(sum.bytes, 9);
  EXPECT_NE(sum, write_durable(folder.file("c"), "Some text"));
  // As `xxhsum -H2` prints of no bytes.
  EXPECT_EQ(write_durable(folder.file("d"), "").xxh128,
            "99aa06d3014798d86001c324468d497f");
  EXPECT_THROW(write_durable(folder.file("a"), ""), Error);
  EXPECT_EQ(content(folder.file("a")), "some text");
}

TEST(Manifest, TellsFilesThatChanged) {
  const TestFolder folder("manifest");
  const FileSum sum = write_durable(folder.file("a"), "some text");
  write_manifest(folder.path(), {{"a", sum}, {"b", {3, "00"}}});
  const Manifest read = read_manifest(folder.path());
  EXPECT_EQ(read, (Manifest{{"a", sum}, {"b", {3, "00"}}}));
  const auto check = [&](const std::string& name) {
    return refusal([&] { check_file(folder.path(), name, read.at(name)); });
  };
  EXPECT_EQ(check("a"), "accepted");
  EXPECT_THAT(check("b"), HasSubstr("No such file"));
  const auto check_named = [&](const std::string& name) {
    return refusal([&] { check_file(folder.path(), name); });
  };
  EXPECT_EQ(check_named("a"), "accepted");
  EXPECT_THAT(check_named("c"), HasSubstr("manifest.json] got no c;"));
  overwrite(folder.file("a"), "some texT");
  EXPECT_THAT(check("a"), HasSubstr("was changed or is damaged"));
  EXPECT_EQ(check_named("a"), check("a"));
  overwrite(folder.file("a"), "some tex");
  EXPECT_THAT(check("a"), HasSubstr("got 8 bytes; want 9"));
}

TEST(Manifest, BadOnesAreRefused) {
  const TestFolder folder("manifest");
  EXPECT_THAT(refusal([&] { read_manifest(folder.path()); }),
              HasSubstr("manifest.json"));
  const std::string head = R"({"format": "ringweave.manifest", "version": 1)";
  for (const auto& [text, wanted] :
       std::vector<std::pair<std::string, const char*>>{
           {"{}", "format"},
           {head + "}", "files"},
           {head + R"(, "files": 3})", "want a list"},
           {head +
                R"(, "files": [{"name": "../x", "bytes": 1, "xxh128": ""}]})",
            "a file of this folder"},
           {head + R"(, "files": [{"name": "x", "bytes": 1, "xxh128": ""},
                                  {"name": "x", "bytes": 1, "xxh128": ""}]})",
            "twice"},
           {head + R"(, "files": [{"name": "x", "bytes": -1, "xxh128": ""}]})",
            "bytes"}}) {
    overwrite(folder.file("manifest.json"), text);
    EXPECT_THAT(refusal([&] { read_manifest(folder.path()); }),
                HasSubstr(wanted));
  }
}

}  // namespace
}  // namespace ringweave::checkpoint
