// Dissemination of the summaries of linear layers, by every strategy.
#include <set>

#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/schedule/proof/validate.h"
#include "ringweave/schedule/test_cases.h"

namespace ringweave::schedule {
namespace {

// One part per segment. A rank needs those before its last segment, or all.
class SegmentDemand final : public Demand {
 public:
  SegmentDemand(const Layout& layout, bool causal)
      : segments_(layout.segments()), causal_(causal), parts_(layout.ranks()) {
    for (const Segment& segment : segments_) ++parts_[segment.rank];
  }

  int ranks() const override { return static_cast<int>(parts_.size()); }
  int parts(Rank owner) const override { return parts_[owner]; }
  std::int64_t size(const BlockId& block, int strands) const override {
    return cut({0, 17}, block.strand, strands).size();
  }
  bool needs(Rank rank, const BlockId& block, int strands) const override {
    if (rank == block.owner || size(block, strands) == 0) return false;
    bool passed = !causal_;
    for (const Segment& segment : segments_) {
      if (segment.rank == rank && passed) return true;
      passed |= segment.rank == block.owner && segment.index == block.part;
    }
    return false;
  }

 private:
  std::vector<Segment> segments_;
  bool causal_;
  std::vector<int> parts_;
};

std::vector<SegmentDemand> segment_demands(int ranks) {
  std::vector<SegmentDemand> all;
  std::vector<std::int64_t> gaps;
  for (Rank rank = 0; rank < ranks; ++rank) gaps.push_back(rank % 2 * 3);
  for (const Layout& layout :
       {Layout::contiguous(31, ranks), Layout::zigzag(31, ranks),
        Layout::contiguous(gaps), Layout::contiguous(0, ranks)}) {
    for (const bool causal : {false, true}) all.emplace_back(layout, causal);
  }
  return all;
}

TEST(Summaries, ReachAllThatNeedThem) {
  for (int ranks = 1; ranks <= 8; ++ranks) {
    for (const Strategy& strategy : test_strategies(ranks)) {
      const int strands = strand_count(strategy, ranks);
      for (const SegmentDemand& demand : segment_demands(ranks)) {
        SCOPED_TRACE(name(strategy));
        const Schedule all = whole_of_summaries(strategy, demand);
        ASSERT_NO_THROW(validate_scan(all, demand, strands));
        std::multiset<Transfer> transfers;
        std::vector<Retained> retained;
        for (Rank rank = 0; rank < ranks; ++rank) {
          const Schedule part = rank_part_of_summaries(strategy, demand, rank);
          ASSERT_EQ(part.steps, all.steps);
          transfers.insert(part.transfers.begin(), part.transfers.end());
          retained.insert(retained.end(), part.retained.begin(),
                          part.retained.end());
        }
        ASSERT_EQ(transfers.size(), 2 * all.transfers.size());
        for (const Transfer& transfer : all.transfers) {
          ASSERT_EQ(transfers.count(transfer), 2);
          ASSERT_EQ(transfer.slot,
                    transfer.block.owner * strands + transfer.block.strand);
        }
        ASSERT_EQ(retained, all.retained);
      }
    }
  }
}

TEST(Summaries, ValidatorFindsEveryMutation) {
  const SegmentDemand demand(Layout::zigzag(31, 4), true);
  for (const Strategy& strategy : test_strategies(4)) {
    SCOPED_TRACE(name(strategy));
    const int strands = strand_count(strategy, 4);
    const Schedule good = whole_of_summaries(strategy, demand);
    const auto expect_bad = [&](const Schedule& bad) {
      EXPECT_THROW(validate_scan(bad, demand, strands), InvalidArgument);
    };
    for (std::size_t i = 0; i < good.transfers.size(); ++i) {
      SCOPED_TRACE(i);
      Schedule bad = good;
      bad.transfers.erase(bad.transfers.begin() + i);
      expect_bad(bad);
      bad = good;
      bad.transfers.push_back(bad.transfers[i]);
      expect_bad(bad);
      bad = good;
      bad.transfers[i].to = (bad.transfers[i].to + 1) % 4;
      expect_bad(bad);
      bad.transfers[i] = good.transfers[i];
      bad.transfers[i].from = (bad.transfers[i].from + 1) % 4;
      // What is passed on may as well come from another rank that has it.
      if (bad.transfers[i].source_slot == kOwn) expect_bad(bad);
      bad.transfers[i] = good.transfers[i];
      bad.transfers[i].slot += 100;
      expect_bad(bad);
      bad.transfers[i] = good.transfers[i];
      bad.transfers[i].action = Action::compose;
      expect_bad(bad);
      bad.transfers[i] = good.transfers[i];
      bad.transfers[i].payload = Payload::kv;
      expect_bad(bad);
    }
    for (std::size_t i = 0; i < good.retained.size(); ++i) {
      Schedule bad = good;
      bad.retained.erase(bad.retained.begin() + i);
      expect_bad(bad);
    }
    Schedule bad = good;
    bad.pass = Pass::backward;
    expect_bad(bad);
    bad = good;
    bad.tiles.push_back({0, 0, {0, 0, 0}, kOwn, kOwn});
    expect_bad(bad);
  }
}

}  // namespace
}  // namespace ringweave::schedule
