#include "ringweave/base/mapped_file.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "ringweave/base/error.h"

namespace ringweave {
namespace {

/// Of this process: resident memory that files lie in, in KiB.
std::int64_t resident_file_kib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("RssFile:")) return std::stoll(line.substr(8));
  }
  return -1;
}

class MappedFileTest : public ::testing::Test {
 protected:
  MappedFileTest()
      : path_(std::filesystem::temp_directory_path() /
              fmt::format("ringweave-mapped-{}", getpid())) {}
  ~MappedFileTest() override { std::filesystem::remove(path_); }

  std::string write(const std::string& text) const {
    std::ofstream(path_, std::ios::binary) << text;
    return path_;
  }

  std::filesystem::path path_;
};

TEST_F(MappedFileTest, WhatIsDroppedLeavesMemoryAndComesBack) {
  constexpr std::size_t kSize = (8 << 20) + 5;
  const MappedFile file(write(std::string(kSize, 'x')), "a text");
  const auto all = file.bytes();
  const auto xs = [&] {
    return std::ranges::count(all, static_cast<std::byte>('x'));
  };
  const std::int64_t before = resident_file_kib();
  ASSERT_GE(before, 0);
  EXPECT_EQ(xs(), static_cast<std::ptrdiff_t>(kSize));
  EXPECT_GT(resident_file_kib(), before + 7 * 1024);
  file.drop(all.subspan(100, kSize - 200));
  EXPECT_LT(resident_file_kib(), before + 1024);
  EXPECT_EQ(xs(), static_cast<std::ptrdiff_t>(kSize));
  file.drop(all.last(1));
  file.drop({});
  EXPECT_EQ(xs(), static_cast<std::ptrdiff_t>(kSize));
}

TEST_F(MappedFileTest, AnEmptyFileHasNoBytes) {
  const MappedFile file(write(""), "a text");
  EXPECT_TRUE(file.bytes().empty());
  file.drop(file.bytes());
}

TEST_F(MappedFileTest, AMissingFileIsNamed) {
  try {
    const MappedFile file(path_, "a readable text");
    ADD_FAILURE() << "nothing was thrown";
  } catch (const InvalidArgument& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find(path_.string()), text.npos);
    EXPECT_NE(text.find("want a readable text"), text.npos);
  }
}

}  // namespace
}  // namespace ringweave
