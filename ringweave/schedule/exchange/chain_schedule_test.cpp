#include "ringweave/schedule/exchange/chain_schedule.h"

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/schedule/proof/validate.h"

namespace ringweave::schedule {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// The segments of a layout, which its owner numbers in position order.
StateDemand chain_of(const Layout& layout, Pass pass, bool end_everywhere) {
  StateDemand states{.ranks = layout.ranks(),
                     .segments = {},
                     .pass = pass,
                     .end_everywhere = end_everywhere,
                     .summary = {.rows = 20, .width = 5}};
  for (const Segment& segment : layout.segments()) {
    states.segments.push_back({segment.rank, segment.index});
  }
  return states;
}

using Segments = std::vector<StateDemand::Segment>;

ChainDemand chain_of(Segments segments, Pass pass, bool end_everywhere) {
  return ChainDemand({.ranks = 2,
                      .segments = std::move(segments),
                      .pass = pass,
                      .end_everywhere = end_everywhere,
                      .summary = {.rows = 20, .width = 5}},
                     1);
}

std::vector<Layout> layouts(int ranks) {
  std::vector<std::int64_t> gaps;
  for (Rank rank = 0; rank < ranks; ++rank) gaps.push_back(rank % 2 * 3);
  return {Layout::contiguous(5 * ranks + 1, ranks),
          Layout::zigzag(5 * ranks + 1, ranks), Layout::zigzag(3, ranks),
          Layout::contiguous(gaps), Layout::contiguous(0, ranks)};
}

TEST(ChainSchedule, IsValidInBothDirections) {
  for (int ranks = 1; ranks <= 8; ++ranks) {
    for (const Layout& layout : layouts(ranks)) {
      for (const int strands : {1, 3, 24}) {
        for (const bool end_everywhere : {false, true}) {
          const Pass pass = ranks % 2 == 0 ? Pass::forward : Pass::backward;
          const ChainDemand demand(chain_of(layout, pass, end_everywhere),
                                   strands);
          const Schedule all = chain_schedule(demand, {});
          ASSERT_NO_THROW(validate_scan(all, demand));
          std::multiset<Transfer> transfers;
          for (Rank rank = 0; rank < ranks; ++rank) {
            const Schedule part = chain_schedule(demand, rank);
            ASSERT_EQ(part.steps, all.steps);
            transfers.insert(part.transfers.begin(), part.transfers.end());
          }
          ASSERT_EQ(transfers.size(), 2 * all.transfers.size());
          for (const Transfer& transfer : all.transfers) {
            ASSERT_EQ(transfers.count(transfer), 2);
          }
        }
      }
    }
  }
}

// Nothing travels between the two segments of rank 1.
TEST(ChainSchedule, SkipsHopsWithinARank) {
  const Segments segments = {{0, 0}, {1, 0}, {1, 1}, {0, 1}};
  const Schedule chain =
      chain_schedule(chain_of(segments, Pass::forward, true), {});
  EXPECT_EQ(chain.steps, 4);
  const std::vector<Transfer> want = {
      {0, 1, {0, 0, 0}, Payload::summary, Action::compose, 0, 1, kOwn, 0},
      {1, 0, {1, 0, 1}, Payload::summary, Action::compose, 2, 3, kOwn, 1},
      {0, 1, {0, 0, 1}, Payload::summary, Action::copy, 3, 4, kOwn, 4}};
  EXPECT_EQ(chain.transfers, want);

  const std::vector<Transfer> reversed = {
      {0, 1, {0, 0, 1}, Payload::summary, Action::compose, 0, 1, kOwn, 1},
      {1, 0, {1, 0, 0}, Payload::summary, Action::compose, 2, 3, kOwn, 0}};
  EXPECT_EQ(
      chain_schedule(chain_of(segments, Pass::backward, false), {}).transfers,
      reversed);
}

TEST(ChainSchedule, ReceivesOneStatePerHop) {
  for (const int strands : {1, 3}) {
    const ChainDemand demand(
        chain_of(Layout::contiguous(64, 8), Pass::forward, false), strands);
    const Schedule chain = chain_schedule(demand, {});
    EXPECT_EQ(chain.steps, 8 + strands - 1);
    const LinkTraffic traffic = link_traffic(chain);
    EXPECT_EQ(traffic.size(), 7);
    for (const auto& [link, units] : traffic) {
      EXPECT_EQ(link.second, link.first + 1);
      EXPECT_EQ(units.at(Payload::summary), 100);
    }
  }
}

// 20 rows in 3 strands: 7, 7 and 6 rows, a step apart.
TEST(ChainSchedule, StrandsFollowEachOther) {
  const ChainDemand demand(
      chain_of(Layout::contiguous(9, 3), Pass::forward, false), 3);
  const Schedule chain = chain_schedule(demand, {});
  ASSERT_EQ(chain.transfers.size(), 6);
  for (const Transfer& transfer : chain.transfers) {
    EXPECT_EQ(transfer.post_step, transfer.from + transfer.block.strand);
    EXPECT_EQ(transfer.wait_step, transfer.post_step + 1);
    EXPECT_EQ(block_size(chain, transfer.block),
              transfer.block.strand < 2 ? 35 : 30);
  }
}

TEST(ChainSchedule, ValidatorFindsEveryMutation) {
  const ChainDemand demand(chain_of(Layout::zigzag(40, 4), Pass::forward, true),
                           2);
  const Schedule good = chain_schedule(demand, {});
  for (std::size_t i = 0; i < good.transfers.size(); ++i) {
    SCOPED_TRACE(i);
    Schedule bad = good;
    bad.transfers.erase(bad.transfers.begin() + i);
    EXPECT_THROW(validate_scan(bad, demand), InvalidArgument);
    bad = good;
    bad.transfers.push_back(bad.transfers[i]);
    EXPECT_THROW(validate_scan(bad, demand), InvalidArgument);
    bad = good;
    bad.transfers[i].to = (bad.transfers[i].to + 1) % 4;
    EXPECT_THROW(validate_scan(bad, demand), InvalidArgument);
    bad = good;
    bad.transfers[i].from = (bad.transfers[i].from + 1) % 4;
    EXPECT_THROW(validate_scan(bad, demand), InvalidArgument);
    bad = good;
    bad.transfers[i].action = bad.transfers[i].action == Action::copy
                                  ? Action::compose
                                  : Action::copy;
    EXPECT_THROW(validate_scan(bad, demand), InvalidArgument);
    // The first state is there from the start.
    if (good.transfers[i].block.owner == 0 && good.transfers[i].block.part == 0)
      continue;
    bad = good;
    bad.transfers[i].post_step = 0;
    EXPECT_THAT(
        [&] { validate_scan(bad, demand); },
        ThrowsMessage<InvalidArgument>(HasSubstr("has not arrived by then")));
  }
  for (std::size_t i = 0; i < good.retained.size(); ++i) {
    Schedule bad = good;
    bad.retained.erase(bad.retained.begin() + i);
    EXPECT_THROW(validate_scan(bad, demand), InvalidArgument);
  }
}

TEST(ChainSchedule, RefusesBadSpecs) {
  const auto demand = [](int ranks, Segments segments, std::int64_t rows,
                         int strands = 1) {
    return ChainDemand({.ranks = ranks,
                        .segments = std::move(segments),
                        .summary = {.rows = rows}},
                       strands);
  };
  EXPECT_THROW(demand(0, {}, 1), InvalidArgument);
  EXPECT_THROW(demand(2, {}, 0), InvalidArgument);
  EXPECT_THROW(demand(2, {}, 1, 0), InvalidArgument);
  EXPECT_THROW(demand(2, {{2, 0}}, 1), InvalidArgument);
  EXPECT_THROW(demand(2, {{0, -1}}, 1), InvalidArgument);
  EXPECT_THROW(demand(2, {{0, 0}, {0, 0}}, 1), InvalidArgument);
  EXPECT_THROW(chain_schedule(demand(2, {{0, 0}}, 1), 2), InvalidArgument);
}

}  // namespace
}  // namespace ringweave::schedule
