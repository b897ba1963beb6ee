#include "ringweave/schedule/demand.h"

#include <algorithm>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/schedule/need_table.h"
#include "ringweave/schedule/test_cases.h"

namespace ringweave::schedule {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// Asks the mask about every pair of a query and a key.
bool needs_slowly(const AttentionDemand& demand, Rank rank,
                  const BlockId& block, int strands) {
  const Run keys =
      demand.kv_layout()
          .block_part(block.owner, block.strand, strands, block.part)
          .positions;
  for (const std::int64_t query : demand.q_layout().positions(rank)) {
    for (std::int64_t j = 0; j < keys.length; ++j) {
      if (demand.mask().sees(query, keys.at(j))) return true;
    }
  }
  return false;
}

TEST(AttentionDemand, NeedsWhatAQuerySees) {
  for (const int ranks : {1, 3, 4}) {
    for (const auto& [title, demand] : test_cases(23, ranks)) {
      SCOPED_TRACE(title);
      for (const int strands : {1, 3}) {
        std::int64_t tokens = 0;
        for (Rank owner = 0; owner < ranks; ++owner) {
          for (int strand = 0; strand < strands; ++strand) {
            for (int part = 0; part < demand.parts(owner); ++part) {
              const BlockId block{owner, strand, part};
              tokens += demand.size(block, strands);
              for (Rank rank = 0; rank < ranks; ++rank) {
                ASSERT_EQ(demand.needs(rank, block, strands),
                          needs_slowly(demand, rank, block, strands));
              }
            }
          }
        }
        EXPECT_EQ(tokens, demand.kv_layout().tokens());
      }
    }
  }
}

TEST(AttentionDemand, NoneOrAllStrandsAreNeededWhenItSaysSo) {
  int decided = 0;
  int asked = 0;
  for (const int ranks : {1, 3, 4}) {
    for (const auto& [title, demand] : test_cases(50, ranks)) {
      SCOPED_TRACE(title);
      for (const int strands : {1, 3, 20}) {
        NeedTable table(demand, strands);
        for (Rank owner = 0; owner < ranks; ++owner) {
          for (int part = 0; part < demand.parts(owner); ++part) {
            for (Rank rank = 0; rank < ranks; ++rank) {
              const Strands said =
                  demand.strands_needed(rank, owner, part, strands);
              int needed = 0;
              for (int strand = 0; strand < strands; ++strand) {
                const BlockId block{owner, strand, part};
                const bool needs = demand.needs(rank, block, strands);
                ASSERT_EQ(table.needs(rank, block), needs);
                needed += needs ? 1 : 0;
              }
              ++asked;
              decided += said != Strands::some ? 1 : 0;
              if (said == Strands::none) {
                ASSERT_EQ(needed, 0);
              }
              if (said == Strands::all) {
                ASSERT_EQ(needed, strands);
              }
              const std::vector<Rank>& users = table.users(owner, part);
              const bool listed =
                  std::find(users.begin(), users.end(), rank) != users.end();
              ASSERT_EQ(listed, rank != owner && said != Strands::none);
            }
          }
        }
      }
    }
  }
  EXPECT_GT(decided, asked / 3);
}

// A table would outgrow what is made from it.
TEST(NeedTable, RemembersNothingForOneStrandOfManyRanks) {
  const Layout layout = Layout::contiguous(1000, 1000);
  const AttentionDemand demand(layout, layout, Mask::causal());
  NeedTable one(demand, 1);
  EXPECT_FALSE(one.remembers());
  NeedTable many(demand, 100);
  EXPECT_TRUE(many.remembers());
  for (const Rank rank : {0, 500, 999}) {
    EXPECT_EQ(one.needs(rank, {500, 0, 0}), rank >= 500);
  }
}

TEST(AttentionDemand, RefusesLayoutsThatDoNotFit) {
  const auto make = [](const Layout& q, const Layout& kv, const Mask& mask) {
    return AttentionDemand(q, kv, mask);
  };
  const Layout eight = Layout::contiguous(8, 2);
  EXPECT_THAT([&] { make(eight, Layout::contiguous(8, 3), Mask::full()); },
              ThrowsMessage<InvalidArgument>(
                  HasSubstr("got a layout of 2 ranks for queries and of 3")));
  const Layout nine = Layout::contiguous(9, 2);
  EXPECT_NO_THROW(make(eight, nine, Mask::full()));
  EXPECT_THROW(make(eight, nine, Mask::causal()), InvalidArgument);
  EXPECT_THROW(make(eight, nine, Mask::full().with_window({1, 1})),
               InvalidArgument);
  EXPECT_THROW(make(eight, nine, Mask::full().with_documents({0, 9})),
               InvalidArgument);
  EXPECT_THROW(make(eight, eight, Mask::full().with_documents({0, 9})),
               InvalidArgument);
}

}  // namespace
}  // namespace ringweave::schedule
