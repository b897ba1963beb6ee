// One rank's own part at a thousand ranks, which must never cost a whole
// schedule: 1023 strands of 1023 owners are a million tiles, the whole a
// billion.
#include <algorithm>
#include <cstdint>
#include <ostream>
#include <string>

#include <gtest/gtest.h>

#include "ringweave/schedule/strategy/strategy.h"

namespace ringweave::schedule {
namespace {

// Under sanitizers everything takes ten times as long.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kRanks = 64;
#else
constexpr int kRanks = 1024;
#endif
constexpr Rank kRank = kRanks / 3;
constexpr std::int64_t kShard = 2 * kRanks;  // tokens; two per strand at least

AttentionDemand demand_of(const char* layout_name, const Mask& mask) {
  const Layout layout = Layout::named(layout_name, kShard * kRanks, kRanks);
  return {layout, layout, mask};
}

// What goes out of a rank, or comes in.
struct Sum {
  std::int64_t transfers = 0;
  std::int64_t units = 0;
  friend bool operator==(const Sum&, const Sum&) = default;
};
void PrintTo(const Sum& sum, std::ostream* out) {
  *out << sum.transfers << " transfers of " << sum.units << " units";
}

struct Sums {
  Sum kv_out, kv_in, grad_out, grad_in, tiles;
};

Sums sums_of(const Schedule& part, const Demand& demand, int strands) {
  Sums sums;
  const auto add = [&](Sum& sum, const BlockId& block) {
    ++sum.transfers;
    sum.units += demand.size(block, strands);
  };
  for (const Transfer& transfer : part.transfers) {
    const bool out = transfer.from == kRank;
    EXPECT_NE(out, transfer.to == kRank);
    const bool kv = transfer.payload == Payload::kv;
    add(kv    ? out ? sums.kv_out : sums.kv_in
        : out ? sums.grad_out
              : sums.grad_in,
        transfer.block);
  }
  const auto in_order = [](const auto& a, const auto& b) {
    return before(a, b);
  };
  EXPECT_TRUE(
      std::is_sorted(part.transfers.begin(), part.transfers.end(), in_order));
  EXPECT_TRUE(std::is_sorted(part.tiles.begin(), part.tiles.end(), in_order));
  for (const Tile& tile : part.tiles) {
    EXPECT_EQ(tile.rank, kRank);
    add(sums.tiles, tile.block);
  }
  return sums;
}

class OwnPart : public ::testing::TestWithParam<const char*> {
 protected:
  Strategy strategy() const {
    std::string name = GetParam();
    if (name.find("nodes") != std::string::npos) {
      name.replace(name.find("nodes"), 5,
                   "nodes=" + std::to_string(kRanks / 8));
    }
    return strategy_from_name(name);
  }
  bool is_direct() const { return strategy().kind == StrategyKind::direct; }
  bool is_all_gather() const {
    return strategy().kind == StrategyKind::all_gather;
  }
};

// However blocks travel, with a full mask every strand of every other owner
// comes in once and every strand goes out n - 1 times, as do gradients. In
// backward the last of n places has kept keys and values (all-gather: all
// have).
TEST_P(OwnPart, HoldsWhatTheFormulasSay) {
  const AttentionDemand demand = demand_of("contiguous", Mask::full());
  const std::int64_t strands = strand_count(strategy(), kRanks);
  const auto strands_of = [&](std::int64_t shards) {
    return Sum{strands * shards, kShard * shards};
  };
  const std::int64_t n = kRanks;
  {
    const Schedule part = rank_part(strategy(), demand, Pass::forward, kRank);
    const Sums sums = sums_of(part, demand, static_cast<int>(strands));
    EXPECT_EQ(sums.kv_out, strands_of(n - 1));
    EXPECT_EQ(sums.kv_in, strands_of(n - 1));
    EXPECT_EQ(sums.grad_out, Sum());
    EXPECT_EQ(sums.grad_in, Sum());
    EXPECT_EQ(sums.tiles, strands_of(n));
    EXPECT_EQ(part.blocks.size(), strands * n);
    EXPECT_EQ(part.retained.size(), is_direct()       ? 0
                                    : is_all_gather() ? n - 1
                                                      : strands);
  }
  const Schedule part = rank_part(strategy(), demand, Pass::backward, kRank);
  const Sums sums = sums_of(part, demand, static_cast<int>(strands));
  const Sum kv = strands_of(is_direct() ? n - 1 : is_all_gather() ? 0 : n - 2);
  EXPECT_EQ(sums.kv_out, kv);
  EXPECT_EQ(sums.kv_in, kv);
  EXPECT_EQ(sums.grad_out, strands_of(n - 1));
  EXPECT_EQ(sums.grad_in, strands_of(n - 1));
  EXPECT_EQ(sums.tiles, strands_of(n));
}

// Zigzag and causal: a rank needs all front parts, and the back parts of the
// owners from itself on; its own front part is needed by all, its back part by
// the ranks below.
TEST_P(OwnPart, HoldsWhatACausalMaskLeaves) {
  const AttentionDemand demand = demand_of("zigzag", Mask::causal());
  const std::int64_t strands = strand_count(strategy(), kRanks);
  const auto strands_of = [&](std::int64_t half_shards) {
    return Sum{strands * half_shards, kShard / 2 * half_shards};
  };
  const std::int64_t n = kRanks;
  const Schedule part = rank_part(strategy(), demand, Pass::forward, kRank);
  const Sums sums = sums_of(part, demand, static_cast<int>(strands));
  EXPECT_EQ(sums.tiles, strands_of(2 * n - kRank));
  if (is_direct() || is_all_gather()) {
    EXPECT_EQ(sums.kv_in, strands_of(2 * (n - 1) - kRank));
    EXPECT_EQ(sums.kv_out, strands_of(n - 1 + kRank));
  } else {
    EXPECT_GE(sums.kv_in.units, strands_of(2 * (n - 1) - kRank).units);
    EXPECT_LE(sums.kv_in.units, strands_of(2 * (n - 1)).units);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Strategies, OwnPart,
    ::testing::Values("ring", "multi_ring", "time_varying_multi_ring", "direct",
                      "all_gather", "paths:nodes", "double_ring:nodes",
                      "hierarchical:nodes",
                      "hierarchical:nodes,inner=multi_ring"));

}  // namespace
}  // namespace ringweave::schedule
