#include "ringweave/plan/strategy.h"

#include <algorithm>
#include <map>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/plan/test_cases.h"
#include "ringweave/plan/validate.h"

namespace ringweave::plan {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// The union of the parts; every transfer is in exactly two of them, with the
// same fields.
void expect_union(const Schedule& all, const std::vector<Schedule>& parts) {
  std::map<Transfer, int> transfers;
  std::vector<Tile> tiles;
  std::vector<Retained> retained;
  std::map<BlockId, std::int64_t> blocks;
  for (const Schedule& part : parts) {
    ASSERT_EQ(part.ranks, all.ranks);
    ASSERT_EQ(part.steps, all.steps);
    ASSERT_EQ(part.pass, all.pass);
    for (const Transfer& transfer : part.transfers) ++transfers[transfer];
    tiles.insert(tiles.end(), part.tiles.begin(), part.tiles.end());
    retained.insert(retained.end(), part.retained.begin(), part.retained.end());
    for (const Block& block : part.blocks) {
      ASSERT_EQ(blocks.emplace(block.id, block.size).first->second, block.size);
    }
    for (const Transfer& transfer : part.transfers) {
      ASSERT_EQ(part_offset(part, transfer.block),
                part_offset(all, transfer.block));
    }
  }
  ASSERT_EQ(transfers.size(), all.transfers.size());
  for (const Transfer& transfer : all.transfers) {
    ASSERT_EQ(transfers[transfer], 2);
  }
  std::sort(tiles.begin(), tiles.end(),
            [](const Tile& a, const Tile& b) { return before(a, b); });
  ASSERT_EQ(tiles, all.tiles);
  std::sort(retained.begin(), retained.end());
  ASSERT_EQ(retained, all.retained);
  ASSERT_EQ(blocks.size(), all.blocks.size());
  for (const Block& block : all.blocks) {
    ASSERT_TRUE(blocks.contains(block.id));
  }
}

void check_pass(const Strategy& strategy, const AttentionDemand& demand,
                Pass pass) {
  const int ranks = demand.ranks();
  const Schedule all = whole(strategy, demand, pass);
  validate(all, demand, strand_count(strategy, ranks));
  std::vector<Schedule> parts;
  for (Rank rank = 0; rank < ranks; ++rank) {
    parts.push_back(rank_part(strategy, demand, pass, rank));
  }
  expect_union(all, parts);
}

void check_all(const Strategy& strategy, const AttentionDemand& demand) {
  check_pass(strategy, demand, Pass::forward);
  check_pass(strategy, demand, Pass::backward);
  const Schedule forward = whole(strategy, demand, Pass::forward);
  EXPECT_EQ(forward.retained, whole(strategy, demand, Pass::backward).retained);
  // Without backward nothing is kept, and nothing else differs.
  Schedule alone = whole(strategy, demand, Pass::forward, false);
  EXPECT_TRUE(alone.retained.empty());
  alone.retained = forward.retained;
  EXPECT_EQ(alone, forward);
}

class EveryStrategy : public ::testing::TestWithParam<int> {};

TEST_P(EveryStrategy, IsValidForEveryLayoutAndMask) {
  const int ranks = GetParam();
  for (const Strategy& strategy : test_strategies(ranks)) {
    for (const std::int64_t tokens : {2, 29}) {
      for (const auto& [title, demand] : test_cases(tokens, ranks)) {
        SCOPED_TRACE(name(strategy) + ", " + title);
        ASSERT_NO_THROW(check_all(strategy, demand));
        if (HasFatalFailure()) return;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, EveryStrategy, ::testing::Range(1, 9));

TEST(Strategy, IsValidForManyRanks) {
  for (const int ranks : {16, 33, 64}) {
    const Layout layout = Layout::contiguous(ranks * ranks, ranks);
    const AttentionDemand demand(layout, layout, Mask::full());
    for (const char* name : {"ring", "multi_ring", "direct", "all_gather"}) {
      const Strategy strategy = strategy_from_name(name);
      const int strands = strand_count(strategy, ranks);
      for (const Pass pass : {Pass::forward, Pass::backward}) {
        EXPECT_NO_THROW(
            validate(whole(strategy, demand, pass), demand, strands))
            << name << " on " << ranks;
      }
    }
  }
}

}  // namespace
}  // namespace ringweave::plan
