#include "ringweave/plan/demand.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/plan/test_cases.h"

namespace ringweave::plan {
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
    const Range visible = demand.mask().visible_keys(
        query,
        std::max(demand.q_layout().tokens(), demand.kv_layout().tokens()));
    if (!keys.indices_in(visible).empty()) return true;
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
}  // namespace ringweave::plan
