#include "ringweave/cli/progress.h"

#include <algorithm>
#include <array>
#include <memory>

#include <gtest/gtest.h>

namespace ringweave::cli {
namespace {

/// What `use` makes a Progress of `total` steps write.
template <typename Use>
std::string written(Progress::Style style, std::int64_t total, Use use) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(),
                                                             std::fclose);
  {
    Progress progress("step", total, style, file.get());
    use(progress);
  }
  std::rewind(file.get());
  std::string text;
  std::array<char, 4096> chunk;
  while (const std::size_t size =
             std::fread(chunk.data(), 1, chunk.size(), file.get())) {
    text.append(chunk.data(), size);
  }
  return text;
}

TEST(Progress, BarFillsFromEmptyToFull) {
  EXPECT_EQ(bar(0, 7, 4), "[----]");
  EXPECT_EQ(bar(4, 8, 4), "[##--]");
  EXPECT_EQ(bar(7, 7, 4), "[####]");
  EXPECT_EQ(bar(9, 7, 4), "[####]");
  EXPECT_EQ(bar(0, 0, 4), "[####]");
}

TEST(Progress, NumbersHaveThreeDigitsAndAPrefix) {
  EXPECT_EQ(with_prefix(0), "0");
  EXPECT_EQ(with_prefix(999), "999");
  EXPECT_EQ(with_prefix(1234), "1.23 k");
  EXPECT_EQ(with_prefix(12345), "12.3 k");
  EXPECT_EQ(with_prefix(123456), "123 k");
  EXPECT_EQ(with_prefix(999999), "1.00 M");
  EXPECT_EQ(with_prefix(7.5e12), "7.50 T");
}

TEST(Progress, TimesHaveFourDigits) {
  EXPECT_EQ(time_text(0), "0 ms");
  EXPECT_EQ(time_text(0.00697303), "6.973 ms");
  EXPECT_EQ(time_text(0.99994), "999.9 ms");
  EXPECT_EQ(time_text(0.999999), "1 s");
  EXPECT_EQ(time_text(15.448), "15.45 s");
  EXPECT_EQ(time_text(9999.4), "9999 s");
  EXPECT_EQ(time_text(1234567.8), "1234568 s");
}

TEST(Progress, LinesAreFewAndHoldFirstAndLast) {
  const auto all = [](Progress& progress) {
    for (int step = 1; step <= 100; ++step) progress.update(step, "loss 1");
  };
  const std::string text = written(Progress::Style::lines, 100, all);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 21);
  EXPECT_EQ(text.rfind("step 1/100  loss 1\n", 0), 0U);
  EXPECT_NE(text.find("step 100/100  loss 1\n"), std::string::npos);
  EXPECT_EQ(written(Progress::Style::off, 100, all), "");
}

TEST(Progress, BarRedrawsOneLineAndNotesStandAbove) {
  const std::string text =
      written(Progress::Style::bar, 2, [](Progress& progress) {
        progress.update(1, "a");
        progress.note("validation");
        progress.update(2, "b");
      });
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
  EXPECT_NE(text.find("\r\033[Kvalidation\n"), std::string::npos);
  EXPECT_NE(text.find("2/2  b\n"), std::string::npos);
}

}  // namespace
}  // namespace ringweave::cli
