#include "ringweave/schedule/mask/mask.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave::schedule {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kTokens = 23;

/// The definition, pair by pair.
bool visible(const Mask& mask, std::int64_t q, std::int64_t k) {
  if (mask.is_causal() && k > q) return false;
  if (mask.window().left && k < q - *mask.window().left) return false;
  if (mask.window().right && k > q + *mask.window().right) return false;
  const auto& offsets = mask.document_offsets();
  for (std::size_t d = 1; d < offsets.size(); ++d) {
    if ((q < offsets[d]) != (k < offsets[d])) return false;
  }
  return true;
}

std::vector<Mask> masks() {
  std::vector<Mask> masks;
  for (const Mask& kind : {Mask::full(), Mask::causal()}) {
    for (const Window& window :
         {Window{}, Window{3, {}}, Window{{}, 2}, Window{0, 0}, Window{2, 5}}) {
      for (const std::vector<std::int64_t>& offsets :
           {std::vector<std::int64_t>{},
            {0, kTokens},
            {0, 1, 7, 8, 20, kTokens}}) {
        const Mask mask = kind.with_window(window);
        masks.push_back(offsets.empty() ? mask : mask.with_documents(offsets));
      }
    }
  }
  return masks;
}

TEST(Mask, IntervalsAreaAndVisibilityEqualTheDefinition) {
  const std::vector<schedule::Run> runs = {
      {0, kTokens, 1}, {4, 0, 1}, {0, 5, 1},  {3, 6, 1}, {9, 14, 1},
      {1, 6, 4},       {0, 4, 7}, {22, 1, 1}, {2, 7, 3}, {3, 10, 2}};
  for (const Mask& mask : masks()) {
    for (const schedule::Run& queries : runs) {
      for (const schedule::Run& keys : runs) {
        const auto intervals = mask.intervals(queries, keys, kTokens);
        std::int64_t area = 0;
        for (std::int64_t i = 0; i < queries.length; ++i) {
          for (std::int64_t j = 0; j < keys.length; ++j) {
            const bool want = visible(mask, queries.at(i), keys.at(j));
            area += want;
            ASSERT_EQ(j >= intervals[i].begin && j < intervals[i].end, want)
                << mask.to_json() << " query " << queries.at(i) << " key "
                << keys.at(j);
          }
        }
        ASSERT_EQ(mask.area(queries, keys, kTokens), area);
        ASSERT_EQ(mask.any_visible(queries, keys, kTokens), area > 0)
            << mask.to_json() << " queries from " << queries.begin
            << " keys from " << keys.begin;
      }
    }
  }
}

TEST(Mask, PlainWithoutWindowAndDocuments) {
  for (const Mask& mask : {Mask::full(), Mask::causal()}) {
    EXPECT_TRUE(mask.is_plain());
    EXPECT_FALSE(mask.with_window({{3}, {}}).is_plain());
    EXPECT_FALSE(mask.with_window({{}, {0}}).is_plain());
    EXPECT_FALSE(mask.with_documents({0, 9}).is_plain());
  }
}

TEST(Mask, JsonRoundTrip) {
  for (const Mask& mask : masks()) {
    EXPECT_EQ(Mask::from_json(mask.to_json(), "mask"), mask);
  }
}

TEST(Mask, BadWindowsAndDocumentsAreErrors) {
  const auto error_of = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(error_of([] {
                Mask::full().with_window({-1, {}});
              }),
              HasSubstr("got a window side of -1"));
  for (const std::vector<std::int64_t>& offsets :
       {std::vector<std::int64_t>{0}, {1, 4}, {0, 3, 3}, {0, 5, 2}}) {
    EXPECT_THAT(error_of([&] { Mask::full().with_documents(offsets); }),
                HasSubstr("got document offsets"));
  }
  EXPECT_THAT(error_of([] {
                Mask::causal().with_documents({0, 4}).check_tokens(5);
              }),
              HasSubstr("end at 4; want 5"));
}

}  // namespace
}  // namespace ringweave::schedule
