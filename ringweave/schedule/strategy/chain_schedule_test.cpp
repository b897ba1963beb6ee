#include "ringweave/schedule/strategy/chain_schedule.h"

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
ChainSpec chain_of(const Layout& layout, bool reverse, bool broadcast) {
  ChainSpec spec{layout.ranks(), {}, 100, reverse, broadcast};
  for (const Segment& segment : layout.segments()) {
    spec.segments.push_back({segment.rank, segment.index});
  }
  return spec;
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
      for (const bool reverse : {false, true}) {
        for (const bool broadcast : {false, true}) {
          const ChainDemand demand(chain_of(layout, reverse, broadcast));
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
  const std::vector<ChainSpec::Segment> segments = {
      {0, 0}, {1, 0}, {1, 1}, {0, 1}};
  const ChainDemand demand({2, segments, 100, false, true});
  const Schedule chain = chain_schedule(demand, {});
  EXPECT_EQ(chain.steps, 4);
  const std::vector<Transfer> want = {
      {0, 1, {0, 0, 0}, Payload::summary, Action::compose, 0, 1, kOwn, 0},
      {1, 0, {1, 0, 1}, Payload::summary, Action::compose, 2, 3, kOwn, 1},
      {0, 1, {0, 0, 1}, Payload::summary, Action::copy, 3, 4, kOwn, 4}};
  EXPECT_EQ(chain.transfers, want);

  const ChainDemand back({2, segments, 100, true, false});
  const std::vector<Transfer> reversed = {
      {0, 1, {0, 0, 1}, Payload::summary, Action::compose, 0, 1, kOwn, 1},
      {1, 0, {1, 0, 0}, Payload::summary, Action::compose, 2, 3, kOwn, 0}};
  EXPECT_EQ(chain_schedule(back, {}).transfers, reversed);
}

TEST(ChainSchedule, ReceivesOneStatePerHop) {
  const ChainDemand demand(chain_of(Layout::contiguous(64, 8), false, false));
  const LinkTraffic traffic = link_traffic(chain_schedule(demand, {}));
  EXPECT_EQ(traffic.size(), 7);
  for (const auto& [link, units] : traffic) {
    EXPECT_EQ(link.second, link.first + 1);
    EXPECT_EQ(units.at(Payload::summary), 100);
  }
}

TEST(ChainSchedule, ValidatorFindsEveryMutation) {
  const ChainDemand demand(chain_of(Layout::zigzag(40, 4), false, true));
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
    if (i == 0) continue;
    // Sent before the state before it has arrived.
    bad = good;
    bad.transfers[i].post_step = 0;
    EXPECT_THAT([&] { validate_scan(bad, demand); },
                ThrowsMessage<InvalidArgument>(
                    HasSubstr("the state before it has not arrived")));
  }
}

TEST(ChainSchedule, RefusesBadSpecs) {
  using Segments = std::vector<ChainSpec::Segment>;
  const auto demand = [](int ranks, Segments segments, std::int64_t size) {
    return ChainDemand({ranks, std::move(segments), size, false, false});
  };
  EXPECT_THROW(demand(0, {}, 1), InvalidArgument);
  EXPECT_THROW(demand(2, {}, 0), InvalidArgument);
  EXPECT_THROW(demand(2, {{2, 0}}, 1), InvalidArgument);
  EXPECT_THROW(demand(2, {{0, -1}}, 1), InvalidArgument);
  EXPECT_THROW(demand(2, {{0, 0}, {0, 0}}, 1), InvalidArgument);
  EXPECT_THROW(chain_schedule(demand(2, {{0, 0}}, 1), 2), InvalidArgument);
}

}  // namespace
}  // namespace ringweave::schedule
