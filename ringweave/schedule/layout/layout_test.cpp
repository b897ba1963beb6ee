#include "ringweave/schedule/layout/layout.h"

#include <algorithm>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"

namespace ringweave::schedule {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string error_of(const auto& call) {
  try {
    call();
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "no error";
}

void expect_partition(const Layout& layout) {
  std::vector<std::int64_t> all;
  for (Rank r = 0; r < layout.ranks(); ++r) {
    const auto positions = layout.positions(r);
    EXPECT_EQ(static_cast<std::int64_t>(positions.size()),
              layout.shard_tokens(r));
    all.insert(all.end(), positions.begin(), positions.end());
  }
  std::sort(all.begin(), all.end());
  std::vector<std::int64_t> expected(layout.tokens());
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(all, expected);
}

/// The strands' parts tile the shard, and `local` points at `positions`.
void expect_parts_tile(const Layout& layout, int strands) {
  for (Rank r = 0; r < layout.ranks(); ++r) {
    const auto positions = layout.positions(r);
    std::vector<int> times(positions.size());
    for (int s = 0; s < strands; ++s) {
      for (int p = 0; p < layout.parts(r); ++p) {
        const BlockPart part = layout.block_part(r, s, strands, p);
        ASSERT_EQ(part.positions.length, part.local.length);
        for (std::int64_t i = 0; i < part.local.length; ++i) {
          ++times.at(part.local.at(i));
          EXPECT_EQ(positions.at(part.local.at(i)), part.positions.at(i));
        }
      }
    }
    EXPECT_THAT(times, ::testing::Each(1));
  }
}

TEST(Layout, NamedLayoutsPartitionAnyLengthOnAnyRanks) {
  for (const char* name : {"contiguous", "zigzag", "striped"}) {
    for (int ranks : {1, 2, 3, 4, 5, 7, 8}) {
      for (std::int64_t tokens : {0, 1, 2, 5, 16, 17, 63, 100}) {
        SCOPED_TRACE(fmt::format("{} {} {}", name, ranks, tokens));
        const Layout layout = Layout::named(name, tokens, ranks);
        expect_partition(layout);
        for (int strands : {1, 2, 3, 7}) expect_parts_tile(layout, strands);
        EXPECT_EQ(Layout::from_json(layout.to_json(), "layout"), layout);
      }
    }
  }
}

TEST(Layout, ZigzagGivesARankAFrontAndABackChunk) {
  const Layout layout = Layout::zigzag(12, 3);
  EXPECT_THAT(layout.positions(0), ElementsAre(0, 1, 10, 11));
  EXPECT_THAT(layout.positions(2), ElementsAre(4, 5, 6, 7));
}

TEST(Layout, ZigzagStrandsTakeOppositeSlicesOfTheTwoChunks) {
  const Layout layout = Layout::zigzag(24, 2);  // chunks of 6
  EXPECT_EQ(layout.block_part(0, 0, 3, 0).positions, (schedule::Run{0, 2, 1}));
  EXPECT_EQ(layout.block_part(0, 0, 3, 1).positions, (schedule::Run{22, 2, 1}));
  EXPECT_EQ(layout.block_part(0, 2, 3, 1).positions, (schedule::Run{18, 2, 1}));
  EXPECT_EQ(layout.block_part(0, 2, 3, 1).local, (schedule::Run{6, 2, 1}));
}

TEST(Layout, StripedStrandsAreDealtTokenByToken) {
  const Layout layout = Layout::striped(20, 2);
  EXPECT_EQ(layout.block_part(1, 1, 3, 0).positions, (schedule::Run{3, 3, 6}));
  EXPECT_EQ(layout.block_part(1, 1, 3, 0).local, (schedule::Run{1, 3, 3}));
}

TEST(Layout, UnevenAndEmptyShards) {
  const Layout layout = Layout::contiguous({5, 0, 1, 7});
  EXPECT_EQ(layout.kind(), Layout::Kind::explicit_runs);
  expect_partition(layout);
  expect_parts_tile(layout, 3);
  EXPECT_EQ(Layout::from_json(layout.to_json(), "layout"), layout);
  EXPECT_EQ(Layout::contiguous({3, 3, 4}), Layout::contiguous(10, 3));
}

TEST(Layout, SegmentsMergeNeighbouringRunsOfARank) {
  const auto segments = Layout::zigzag(12, 3).segments();
  std::vector<std::array<std::int64_t, 5>> found;
  for (const Segment& s : segments) {
    found.push_back(
        {s.rank, s.index, s.positions.begin, s.positions.end, s.local});
  }
  using Row = std::array<std::int64_t, 5>;
  EXPECT_THAT(found, ElementsAre(Row{0, 0, 0, 2, 0}, Row{1, 0, 2, 4, 0},
                                 Row{2, 0, 4, 8, 0}, Row{1, 1, 8, 10, 2},
                                 Row{0, 1, 10, 12, 2}));
  EXPECT_EQ(Layout::zigzag(9, 1).segments().size(), 1u);
  EXPECT_TRUE(Layout::contiguous(0, 3).segments().empty());
}

TEST(Layout, SegmentsOfAStripedLayoutAreAnError) {
  EXPECT_THAT(error_of([] { Layout::striped(8, 2).segments(); }),
              HasSubstr("[layout] got \"striped\" with linear layers"));
  EXPECT_THAT(error_of([] { Layout::striped(8, 1).check_runs("here"); }),
              HasSubstr("[here] got \"striped\""));
  const Layout strided =
      Layout::from_runs(5, {{{0, 3, 2}}, {{1, 1, 1}}, {{3, 1, 7}}});
  EXPECT_THAT(error_of([&] { strided.segments(); }),
              HasSubstr("got a run of stride 2 on rank 0"));
}

TEST(Layout, RunsThatOverlapOrMissTokensAreErrors) {
  const auto from = [](std::int64_t tokens,
                       std::vector<std::vector<schedule::Run>> runs) {
    return error_of([&] { Layout::from_runs(tokens, runs); });
  };
  EXPECT_THAT(from(4, {{{0, 3, 1}}, {{2, 1, 1}}}),
              HasSubstr("position 2 twice"));
  EXPECT_THAT(from(4, {{{0, 3, 1}}}), HasSubstr("3 tokens in all"));
  EXPECT_THAT(from(4, {{{0, 3, 2}}, {{1, 1, 1}}}), HasSubstr("[0, 3, 2]"));
  EXPECT_THAT(from(1, {{{0, 1, 0}}}), HasSubstr("stride >= 1"));
  EXPECT_THAT(from(std::int64_t{1} << 40, {{{0, 1, 1}}}),
              HasSubstr("1 tokens in all"));
  EXPECT_THAT(from(2, {{{1, 1, 1}, {0, 1, 1}}}), HasSubstr("ascending"));
  EXPECT_THAT(from(0, {}), HasSubstr("got 0 ranks"));
}

TEST(Layout, CountsWithoutBoundsAreErrors) {
  const auto from = [](std::int64_t tokens, std::int64_t ranks) {
    const Json json = {
        {"kind", "zigzag"}, {"tokens", tokens}, {"ranks", ranks}};
    return error_of([&] { Layout::from_json(json, "layout"); });
  };
  // As an int it would be 2.
  EXPECT_THAT(from(8, (std::int64_t{1} << 32) + 2),
              HasSubstr("[layout.ranks] got 4294967298"));
  EXPECT_THAT(from(std::int64_t{1} << 62, 8),
              HasSubstr("got 4611686018427387904 tokens"));
}

TEST(Layout, UnknownNamesAreErrors) {
  EXPECT_THAT(error_of([] { Layout::named("zig", 4, 2); }),
              HasSubstr("got \"zig\"; want contiguous"));
}

TEST(Run, IndicesInFindsTheProgressionsMembers) {
  const schedule::Run run = {5, 4, 3};  // 5 8 11 14
  EXPECT_EQ(run.indices_in({0, 100}), (Range{0, 4}));
  EXPECT_EQ(run.indices_in({6, 12}), (Range{1, 3}));
  EXPECT_EQ(run.indices_in({8, 9}), (Range{1, 2}));
  EXPECT_TRUE(run.indices_in({9, 11}).empty());
  EXPECT_TRUE(run.indices_in({-9, 5}).empty());
  EXPECT_TRUE(run.indices_in({15, 40}).empty());
}

}  // namespace
}  // namespace ringweave::schedule
