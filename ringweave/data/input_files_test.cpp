#include "ringweave/data/input_files.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/checkpoint/test_folder.h"

namespace ringweave::data {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class InputFiles : public ::testing::Test {
 protected:
  std::string make(const std::string& name) const {
    const auto path = std::filesystem::path(folder_.path()) / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << "text";
    return path.string();
  }
  std::string refusal(const std::string& path) const {
    try {
      input_files({path}, "data.files");
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    ADD_FAILURE() << "nothing was thrown";
    return "";
  }

  checkpoint::TestFolder folder_{"data"};
};

TEST_F(InputFiles, AFolderIsItsFilesByName) {
  const std::string b = make("b.txt"), a = make("a.txt"), c = make("sub/c");
  make(".hidden");
  make(".git/config");
  EXPECT_THAT(input_files({folder_.path()}, ""), ElementsAre(a, b, c));
  // In the order given, and as often.
  EXPECT_THAT(input_files({b, folder_.path()}, ""), ElementsAre(b, a, b, c));
}

TEST_F(InputFiles, APatternIsWhatMatchesIt) {
  const std::string b = make("b.txt"), a = make("a.txt");
  make("c.md");
  EXPECT_THAT(input_files({folder_.path() + "/*.txt"}, ""), ElementsAre(a, b));
  EXPECT_THAT(input_files({folder_.path() + "/[b-z].txt"}, ""), ElementsAre(b));
  // A file of that very name comes first.
  const std::string odd = make("*.txt");
  EXPECT_THAT(input_files({odd}, ""), ElementsAre(odd));
}

TEST_F(InputFiles, LinksToFilesAreFiles) {
  namespace fs = std::filesystem;
  const std::string a = make("texts/a.txt");
  const fs::path folder = fs::path(a).parent_path();
  fs::create_symlink(a, folder / "b.txt");
  EXPECT_THAT(input_files({folder}, ""),
              ElementsAre(a, (folder / "b.txt").string()));
  fs::create_symlink(folder, fs::path(folder_.path()) / "link");
  EXPECT_EQ(input_files({folder_.path() + "/link"}, "").size(), 2u);
  EXPECT_THAT(refusal(folder_.path()), HasSubstr("link within a folder"));
  fs::create_symlink("nowhere", folder / "broken");
  EXPECT_THAT(refusal(folder), HasSubstr("broken within a folder"));
}

TEST_F(InputFiles, WhatTheSystemRefusesIsNamed) {
  EXPECT_THAT(refusal(std::string(300, 'x')), HasSubstr("File name too long"));
}

TEST_F(InputFiles, NothingIsAnErrorThatNamesIt) {
  EXPECT_THAT(refusal(folder_.path()),
              HasSubstr("[data.files] got " + folder_.path() +
                        ", a folder without files"));
  EXPECT_THAT(refusal(folder_.path() + "/*.txt"),
              HasSubstr("*.txt, which no file matches"));
  EXPECT_THAT(refusal(folder_.path() + "/**/a"), HasSubstr("without **"));
}

}  // namespace
}  // namespace ringweave::data
