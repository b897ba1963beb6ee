#include "ringweave/checkpoint/safetensors.h"

#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/checkpoint/test_folder.h"

namespace ringweave::checkpoint {
namespace {

using ::testing::HasSubstr;

/// A file of this header, with `data` zeros behind it.
std::string bytes_of(const std::string& header, std::size_t data) {
  const std::uint64_t length = header.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + header + std::string(data, '\0');
}

std::string refusal(const std::string& bytes) {
  try {
    parse_safetensors(std::as_bytes(std::span(bytes)), "t.safetensors");
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(), HasSubstr("t.safetensors"));
    return error.what();
  }
  return "accepted";
}

TEST(Safetensors, WhatIsWrittenIsRead) {
  const TestFolder folder("safetensors");
  const std::string path = folder.file("a.safetensors");
  const std::vector<float> a = {1, 2, 3, 4, 5, 6};
  const std::vector<double> b = {0.1};
  const std::vector<NamedTensor> written = {
      {"a", DataType::float32, {2, 3}, std::as_bytes(std::span(a))},
      {"empty", DataType::bfloat16, {0, 7}, {}},
      {"b", DataType::float64, {}, std::as_bytes(std::span(b))}};
  const FileSum sum = write_safetensors(path, written, {{"format", "pt"}});
  EXPECT_EQ(sum, sum_of_file(path));

  const SafetensorsFile file(path);
  const auto read = file.take(written);
  ASSERT_EQ(file.tensors().size(), written.size());
  for (std::size_t i = 0; i < written.size(); ++i) {
    EXPECT_EQ(read[i].name, written[i].name);
    EXPECT_EQ(read[i].shape, written[i].shape);
    ASSERT_EQ(read[i].data.size(), written[i].data.size());
    EXPECT_TRUE(std::ranges::equal(read[i].data, written[i].data));
  }
  EXPECT_THROW(write_safetensors(path, written), Error);  // it is there
}

TEST(Safetensors, ReadsTheFormatAsOthersWriteIt) {
  const std::string bytes = bytes_of(
      R"({"__metadata__": {"format": "pt"},
          "z": {"dtype": "BF16", "shape": [3], "data_offsets": [4, 10]},
          "y": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})",
      10);
  const auto [tensors, metadata] =
      parse_safetensors(std::as_bytes(std::span(bytes)), "t");
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0].name, "y");
  EXPECT_EQ(tensors[1].data.size(), 6u);
  EXPECT_EQ(refusal(bytes_of("{}", 0)), "accepted");
}

TEST(Safetensors, TakeWantsTheseTensorsAndNoOthers) {
  const TestFolder folder("safetensors");
  const std::string path = folder.file("a.safetensors");
  overwrite(path, bytes_of(R"({"a": {"dtype": "F32", "shape": [2],
                                     "data_offsets": [0, 8]}})",
                           8));
  const SafetensorsFile file(path);
  const auto refused = [&](std::vector<NamedTensor> wanted) -> std::string {
    try {
      file.take(wanted);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "taken";
  };
  EXPECT_EQ(refused({{"a", DataType::float32, {2}}}), "taken");
  EXPECT_THAT(refused({}), HasSubstr("got a tensor a; want none"));
  EXPECT_THAT(refused({{"b", DataType::float32, {2}}}),
              HasSubstr("got no tensor b; want it as float32 [2]"));
  EXPECT_THAT(refused({{"a", DataType::float64, {2}}}),
              HasSubstr("as float32 [2]; want float64 [2]"));
  EXPECT_THAT(refused({{"a", DataType::float32, {1, 2}}}),
              HasSubstr("as float32 [2]; want float32 [1, 2]"));
}

TEST(Safetensors, BadFilesAreRefused) {
  const auto tensor = [](const std::string& fields) {
    return bytes_of(fmt::format("{{\"a\": {{{}}}}}", fields), 8);
  };
  const auto two = [](const char* a, const char* b, const std::string& fields) {
    return bytes_of(
        fmt::format("{{\"{}\": {{{}}}, \"{}\": {{{}}}}}", a, fields, b, fields),
        8);
  };
  const std::string good =
      R"("dtype": "F32", "shape": [2], "data_offsets": [0, 8])";
  EXPECT_EQ(refusal(tensor(good)), "accepted");
  for (const auto& [bytes, text] :
       std::vector<std::pair<std::string, const char*>>{
           {"", "got 0 bytes"},
           {"1234567", "got 7 bytes"},
           {tensor(good).substr(0, 20), "got a header of"},
           {std::string(8, '\xff') + "{}", "got a header of"},
           {bytes_of("[]", 0), "no JSON object"},
           {bytes_of("{", 0), "line 1"},
           {bytes_of("{}", 3), "got 3 bytes of data; want 0"},
           {tensor(good).substr(0, tensor(good).size() - 1),
            "a begin and an end within the 7"},
           {tensor(good) + "x", "got 9 bytes of data; want 8"},
           {tensor(R"("dtype": "F3", "shape": [2], "data_offsets": [0, 8])"),
            "\"F32\""},
           {tensor(R"("dtype": "I8", "shape": [8], "data_offsets": [0, 8])"),
            "dtype"},
           {tensor(R"("dtype": "F32", "shape": [3], "data_offsets": [0, 8])"),
            "got 8 bytes of data; want 12"},
           {tensor(R"("dtype": "F32", "shape": [-2], "data_offsets": [0, 8])"),
            "shape"},
           {tensor(R"("dtype": "F32", "shape": [4294967296, 4294967296],
                      "data_offsets": [0, 8])"),
            "more than a file has"},
           {tensor(R"("dtype": "F32", "shape": [2], "data_offsets": [8, 0])"),
            "a begin and an end"},
           {tensor(R"("dtype": "F32", "shape": [2], "data_offsets": [0])"),
            "a begin and an end"},
           {tensor(R"("dtype": "F32", "shape": [2], "data_offsets": [0, 9])"),
            "a begin and an end"},
           {tensor(R"("dtype": "F32", "shape": [2])"), "data_offsets"},
           {tensor(good + R"(, "more": 1)"), "more"},
           {two("a", "a", good), "twice"},
           // Two tensors on the same bytes, and a hole between two.
           {two("a", "b", good), "where the one before it ends"},
           {bytes_of(R"({"a": {"dtype": "F32", "shape": [1],
                               "data_offsets": [0, 4]},
                         "b": {"dtype": "F32", "shape": [1],
                               "data_offsets": [8, 12]}})",
                     12),
            "got b at byte 8 of the data; want it at 4"},
           {bytes_of(R"({"__metadata__": {"x": 1}})", 0), "__metadata__"}}) {
    EXPECT_THAT(refusal(bytes), HasSubstr(text)) << bytes;
  }
}

TEST(Safetensors, AFileThatIsNotThere) {
  EXPECT_THROW(SafetensorsFile("/nowhere/a.safetensors"), InvalidArgument);
  EXPECT_THROW(SafetensorsFile("/"), InvalidArgument);
  EXPECT_THROW(write_safetensors("/nowhere/a.safetensors", {}), Error);
}

}  // namespace
}  // namespace ringweave::checkpoint
