#include "ringweave/schedule/mask/mask.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/schedule/test_cases.h"

namespace ringweave::schedule {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kTokens = 23;

/// A mask, and what it is made of.
struct Made {
  Mask mask = Mask::full();
  bool causal = false;
  Window window;
  std::vector<std::int64_t> offsets;

  /// The definition, pair by pair.
  bool visible(std::int64_t q, std::int64_t k) const {
    if (causal && k > q) return false;
    if (window.left && k < q - *window.left) return false;
    if (window.right && k > q + *window.right) return false;
    // Behind the last document there is nothing.
    if (!offsets.empty() && std::max(q, k) >= offsets.back()) return false;
    for (std::size_t d = 1; d < offsets.size(); ++d) {
      if ((q < offsets[d]) != (k < offsets[d])) return false;
    }
    return true;
  }
};

std::vector<Made> masks() {
  std::vector<Made> masks;
  for (const bool causal : {false, true}) {
    for (const Window& window :
         {Window{}, Window{3, {}}, Window{{}, 2}, Window{0, 0}, Window{2, 5}}) {
      for (const std::vector<std::int64_t>& offsets :
           {std::vector<std::int64_t>{},
            {0, kTokens},
            {0, 4, 18},
            {0, 1, 7, 8, 20, kTokens}}) {
        const Mask mask =
            (causal ? Mask::causal() : Mask::full()).with_window(window);
        masks.push_back({offsets.empty() ? mask : mask.with_documents(offsets),
                         causal, window, offsets});
      }
    }
  }
  return masks;
}

TEST(Mask, AreasPairsAndVisibilityEqualTheDefinition) {
  const std::vector<schedule::Run> runs = {
      {0, kTokens, 1}, {4, 0, 1}, {0, 5, 1},  {3, 6, 1}, {9, 14, 1},
      {1, 6, 4},       {0, 4, 7}, {22, 1, 1}, {2, 7, 3}, {3, 10, 2}};
  for (const Made& made : masks()) {
    for (const schedule::Run& queries : runs) {
      for (const schedule::Run& keys : runs) {
        const std::vector<Area> areas = made.mask.areas(queries, keys);
        std::int64_t pairs = 0;
        for (std::int64_t i = 0; i < queries.length; ++i) {
          for (std::int64_t j = 0; j < keys.length; ++j) {
            const bool want = made.visible(queries.at(i), keys.at(j));
            pairs += want ? 1 : 0;
            ASSERT_EQ(made.mask.sees(queries.at(i), keys.at(j)), want);
            ASSERT_EQ(showing(areas, i, j), want ? 1 : 0)
                << made.mask.to_json() << " query " << queries.at(i) << " key "
                << keys.at(j);
          }
        }
        ASSERT_EQ(made.mask.pairs(queries, keys), pairs);
        ASSERT_EQ(made.mask.any_visible(queries, keys), pairs > 0)
            << made.mask.to_json() << " queries from " << queries.begin
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
  for (const Made& made : masks()) {
    EXPECT_EQ(Mask::from_json(made.mask.to_json(), "mask"), made.mask);
  }
}

TEST(Mask, TellsInWordsWhatItIs) {
  EXPECT_EQ(Mask::causal().text(), "causal");
  EXPECT_EQ(Mask::full().with_window({3, 4}).text(),
            "full, window of 3 left and 4 right");
  EXPECT_EQ(Mask::causal().with_documents({0, 3, 9}).text(),
            "causal, 2 documents");
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
