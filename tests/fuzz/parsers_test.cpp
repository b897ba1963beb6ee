#include "tests/fuzz/parsers.h"

#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "ringweave/base/file.h"

namespace ringweave::fuzz {
namespace {

const std::filesystem::path kTests = RINGWEAVE_TESTS;

void feed_all(const Parser& parser, const std::filesystem::path& folder,
              int& fed) {
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    SCOPED_TRACE(entry.path().filename());
    const std::string text = read_file(entry.path(), "an input");
    EXPECT_NO_THROW(feed(parser, text));
    ++fed;
  }
}

/// Seeds, and what libFuzzer found.
TEST(Parsers, ReadOrRefuseTheirCorpus) {
  for (const Parser& parser : parsers()) {
    SCOPED_TRACE(parser.name);
    int fed = 0;
    feed_all(parser, kTests / "fuzz" / "corpus" / parser.name, fed);
    EXPECT_GT(fed, 0);
  }
}

TEST(Parsers, ReadOrRefuseEveryTable) {
  for (const Parser& parser : parsers()) {
    SCOPED_TRACE(parser.name);
    int fed = 0;
    feed_all(parser, kTests / "tables", fed);
    EXPECT_GT(fed, 0);
  }
}

}  // namespace
}  // namespace ringweave::fuzz
