#include "ringweave/planner/cost/modelled.h"

#include <gtest/gtest.h>

#include "ringweave/topology/topology_file.h"

namespace ringweave::planner {
namespace {

/// 100 tokens a rank of heads of 4 bfloat16 numbers: 800 bytes a head.
constexpr double kHead = 100 * 4 * 2;

std::vector<ModelledCost> costs(const char* topology, std::int64_t heads,
                                std::int64_t kv_heads) {
  const EvenAttention attention{
      .shape = {.heads = heads, .kv_heads = kv_heads, .head_dim = 4},
      .tokens = 100,
      .forward_seconds = 3,
      .backward_seconds = 7};
  const auto loaded = topology::load_topology(topology);
  const Network network(loaded);
  return modelled_costs(attention, Loads(network));
}

TEST(Modelled, UlyssesOfHeadsThatDivide) {
  const ModelledCost ulysses = costs("mesh:ranks=4,rate=100", 8, 4).at(0);
  EXPECT_EQ(ulysses.name, "ulysses");
  // Forward q, k, v and o, backward do, dq, dk and dv, of 2 heads and 1.
  const double bytes = (2 + 2 + 2 * 1) * kHead;
  EXPECT_DOUBLE_EQ(ulysses.forward.seconds, bytes / 100 + 3);
  EXPECT_DOUBLE_EQ(ulysses.backward.seconds, bytes / 100 + 7);
  EXPECT_DOUBLE_EQ(ulysses.forward.bytes.at("link").busiest, bytes);
  EXPECT_DOUBLE_EQ(ulysses.forward.bytes.at("link").total, 12 * bytes);
  EXPECT_DOUBLE_EQ(ulysses.buffer_bytes, 2 * 4 * (2 + 2 * 1) * kHead);
}

TEST(Modelled, UlyssesOfHeadsThatDoNotDivideCostsTheLargestShare) {
  const ModelledCost ulysses = costs("mesh:ranks=3,rate=100", 8, 4).at(0);
  // Query heads 0-1, 2-4, 5-7 use key and value heads 0, 1-2, 2-3.
  const double most = (3 + 3 + 2 * 2) * kHead;
  const double all = (2 * 8 + 2 * (1 + 2 + 2)) * kHead;
  for (const PassCost& pass : {ulysses.forward, ulysses.backward}) {
    EXPECT_DOUBLE_EQ(pass.bytes.at("link").busiest, most);
    EXPECT_DOUBLE_EQ(pass.bytes.at("link").total, 2 * all);
  }
  // 3 heads of 8 on one of 3 ranks take 9 / 8 of the mean.
  EXPECT_DOUBLE_EQ(ulysses.forward.compute_seconds, 3 * 9 / 8.0);
  EXPECT_DOUBLE_EQ(ulysses.forward.seconds, most / 100 + 3 * 9 / 8.0);
  EXPECT_DOUBLE_EQ(ulysses.backward.seconds, most / 100 + 7 * 9 / 8.0);
  EXPECT_DOUBLE_EQ(ulysses.buffer_bytes, 2 * 3 * (3 + 2 * 2) * kHead);
}

TEST(Modelled, FewKeyAndValueHeadsGoToSeveralRanks) {
  const ModelledCost ulysses = costs("mesh:ranks=4,rate=100", 8, 2).at(0);
  EXPECT_DOUBLE_EQ(ulysses.forward.bytes.at("link").busiest,
                   (2 + 2 + 2 * 1) * kHead);
  EXPECT_NE(costs("mesh:ranks=4,rate=100", 3, 3).at(0).why_not, "");
}

TEST(Modelled, RingOfUlyssesTakesTheLargestShareToo) {
  const ModelledCost grid =
      costs("two_level:nodes=2,ranks=8,rate=100,nic=100", 12, 6).at(1);
  EXPECT_EQ(grid.name, "ulysses_ring:group=4");
  // Of 4 times 3 query heads, each use 2 key and value heads; those of 4 ranks'
  // tokens go over the NIC once.
  EXPECT_DOUBLE_EQ(grid.forward.bytes.at("nic").busiest, 4 * 2 * 2 * kHead);
  EXPECT_DOUBLE_EQ(grid.forward.bytes.at("link").busiest,
                   (3 + 3 + 2 * 2) * kHead);
}

}  // namespace
}  // namespace ringweave::planner
