#include "ringweave/checkpoint/weights_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/checkpoint/test_folder.h"

namespace ringweave::checkpoint {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const std::vector<float> kNumbers = {1, 2, 3};

/// A file with these tensors of three numbers each.
void write(const TestFolder& folder, const std::string& file,
           const std::vector<std::string>& names) {
  std::vector<NamedTensor> tensors;
  for (const std::string& name : names) {
    tensors.push_back({.name = name,
                       .shape = {3},
                       .data = std::as_bytes(std::span(kNumbers))});
  }
  std::filesystem::remove(folder.file(file));
  write_safetensors(folder.file(file), tensors);
}

void write_index(const TestFolder& folder, const std::string& map) {
  folder.write(
      kWeightsIndexFile,
      R"({"metadata": {"total_size": 36}, "weight_map": )" + map + "}");
}

std::vector<std::string> names(const WeightsFolder& folder) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : folder.tensors()) {
    EXPECT_TRUE(
        std::ranges::equal(tensor.data, std::as_bytes(std::span(kNumbers))));
    folder.drop(tensor);  // it comes back when it is looked at
    EXPECT_TRUE(
        std::ranges::equal(tensor.data, std::as_bytes(std::span(kNumbers))));
    names.push_back(name);
  }
  return names;
}

std::string refusal(const TestFolder& folder) {
  try {
    WeightsFolder(folder.path());
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(), HasSubstr(folder.path()));
    return error.what();
  }
  return "accepted";
}

TEST(WeightsFolder, ReadsOneFileOrThoseOfTheIndex) {
  const TestFolder folder("weights");
  write(folder, "one.safetensors", {"b", "a"});
  write(folder, "two.safetensors", {"c"});
  write_index(folder, R"({"a": "one.safetensors", "b": "one.safetensors",
                          "c": "two.safetensors"})");
  EXPECT_EQ(names(WeightsFolder(folder.path())),
            (std::vector<std::string>{"a", "b", "c"}));
  // As in Transformers, the one file comes first.
  write(folder, kWeightsFile, {"d"});
  EXPECT_EQ(names(WeightsFolder(folder.path())), std::vector<std::string>{"d"});
}

TEST(WeightsFolder, FilesThatAreNotAsTheIndexSaysAreRefused) {
  const TestFolder folder("weights");
  EXPECT_THAT(refusal(folder),
              AllOf(HasSubstr("got neither"), HasSubstr(kWeightsFile),
                    HasSubstr(kWeightsIndexFile)));
  write_index(folder, R"({"a": "one.safetensors"})");
  EXPECT_THAT(refusal(folder), HasSubstr("one.safetensors"));
  write(folder, "one.safetensors", {"a", "b"});
  EXPECT_THAT(refusal(folder),
              AllOf(HasSubstr("got a tensor b"), HasSubstr("in none")));
  write_index(folder, R"({"a": "one.safetensors", "b": "one.safetensors",
                          "c": "one.safetensors"})");
  EXPECT_THAT(refusal(folder),
              AllOf(HasSubstr("one.safetensors"), HasSubstr("no tensor c")));
  write(folder, "two.safetensors", {"c", "a"});
  write_index(folder, R"({"a": "one.safetensors", "b": "one.safetensors",
                          "c": "two.safetensors"})");
  EXPECT_THAT(refusal(folder),
              AllOf(HasSubstr("two.safetensors"), HasSubstr("tensor a"),
                    HasSubstr("in one.safetensors")));
}

TEST(WeightsFolder, IndexesThatAreNoneAreRefused) {
  const TestFolder folder("weights");
  for (const char* map :
       {R"({"a": "../one.safetensors"})", R"({"a": "/one"})", R"({"a": ".."})",
        R"({"a": ""})", R"({"a": 3})", "[]"}) {
    write_index(folder, map);
    EXPECT_THAT(refusal(folder), HasSubstr("weight_map")) << map;
  }
  folder.write(kWeightsIndexFile, "{}");
  EXPECT_THAT(refusal(folder), HasSubstr("weight_map"));
  folder.write(kWeightsIndexFile, "{");
  EXPECT_THAT(refusal(folder), HasSubstr("line 1"));
}

TEST(WeightsFolder, DamagedFilesAreRefused) {
  const TestFolder folder("weights");
  write(folder, kWeightsFile, {"a"});
  const std::string bytes = content(folder.file(kWeightsFile));
  overwrite(folder.file(kWeightsFile), bytes.substr(0, bytes.size() - 1));
  EXPECT_THAT(refusal(folder), HasSubstr(kWeightsFile));
  overwrite(folder.file(kWeightsFile), "version https://git-lfs");
  EXPECT_THAT(refusal(folder), HasSubstr("want a safetensors file"));
}

}  // namespace
}  // namespace ringweave::checkpoint
