#include "ringweave/attention/cached_attention.h"

#include <chrono>
#include <cmath>
#include <limits>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/comm/local_ranks.h"

namespace ringweave::attention {
namespace {

using Int = std::int64_t;

constexpr Int kHeads = 4, kKvHeads = 2, kHeadDim = 6;

at::Tensor random(Int tokens, Int heads, std::uint64_t seed,
                  at::ScalarType type = at::kDouble) {
  auto generator = at::detail::createCPUGenerator(seed);
  return at::randn({1, tokens, heads, kHeadDim}, generator, at::kDouble)
      .to(type);
}

/// Of one query, at `position`, and the keys of positions 0, 1, …: (heads,
/// head_dim), and lse (heads).
std::pair<at::Tensor, at::Tensor> plain(const at::Tensor& query,
                                        const at::Tensor& k,
                                        const at::Tensor& v, Int position,
                                        Int window) {
  const Int begin = window > 0 ? std::max<Int>(0, position - window + 1) : 0;
  const Int end = std::min(position + 1, k.size(1));
  std::vector<at::Tensor> out, lse;
  for (Int head = 0; head < kHeads; ++head) {
    const Int kv = head / (kHeads / kKvHeads);
    if (end <= begin) {
      out.push_back(at::zeros({kHeadDim}, at::kDouble));
      lse.push_back(
          at::full({}, -std::numeric_limits<double>::infinity(), at::kDouble));
      continue;
    }
    const auto seen = [&](const at::Tensor& x) {
      return x.select(0, 0).narrow(0, begin, end - begin).select(1, kv);
    };
    const at::Tensor scores =
        at::matmul(seen(k), query[head]) / std::sqrt(double{kHeadDim});
    lse.push_back(at::logsumexp(scores, 0));
    out.push_back(at::matmul(at::softmax(scores, 0), seen(v)));
  }
  return {at::stack(out), at::stack(lse)};
}

struct CachedCase {
  Int past;     ///< tokens that are kept
  Int queries;  ///< of the tokens behind them
  Int window;
  int ahead = 2;
};

/// Keys of `past` tokens lie on ranks by position, but some ranks have none;
/// queries are dealt out the other way round.
void run_case(const CachedCase& it, int ranks) {
  at::set_num_threads(1);
  const at::Tensor k = random(it.past, kKvHeads, 1);
  const at::Tensor v = random(it.past, kKvHeads, 2);
  const at::Tensor q = random(it.queries, kHeads, 3);
  const int keepers = std::max(1, ranks - 1);
  const auto positions = [](Int count, int rank, int among, Int from) {
    std::vector<Int> mine;
    for (Int i = 0; i < count; ++i) {
      if (i % among == rank) mine.push_back(from + i);
    }
    return mine;
  };
  std::vector<Int> kept;
  std::vector<std::vector<CachedQuery>> queries(ranks);
  for (int rank = 0; rank < ranks; ++rank) {
    kept.push_back(
        static_cast<Int>(positions(it.past, rank, keepers, 0).size()));
    for (const Int at :
         positions(it.queries, ranks - 1 - rank, ranks, it.past)) {
      queries[rank].push_back({0, at});
    }
  }
  const CachedQueries all(queries, {kept});
  comm::run_ranks(ranks, [&](Rank rank, auto transport) {
    using std::chrono::seconds;
    comm::Communicator communicator(
        std::move(transport), {.start = seconds(30), .step = seconds(30)});
    std::vector<KvCache> caches(1);
    const auto mine = positions(it.past, rank, keepers, 0);
    const at::Tensor index = at::tensor(mine, at::kLong);
    caches[0].append(k.index_select(1, index), v.index_select(1, index), mine);
    std::vector<Int> rows;
    for (const CachedQuery& query : all.of(rank)) {
      rows.push_back(query.position - it.past);
    }
    const Partial got = attention_to_caches(
        q.index_select(1, at::tensor(rows, at::kLong)), {}, {}, all, caches,
        {.sliding_window = it.window,
         .scale = 1 / std::sqrt(double{kHeadDim}),
         .ahead = it.ahead},
        communicator);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const auto [out, lse] =
          plain(q[0][rows[i]], k, v, it.past + rows[i], it.window);
      const auto at = static_cast<Int>(i);
      EXPECT_TRUE(at::allclose(got.out[0][at], out, 1e-10, 1e-10));
      EXPECT_TRUE(
          at::allclose(got.lse.select(0, 0).select(1, at), lse, 1e-10, 1e-10));
    }
  });
}

TEST(CachedAttention, IsThePlainSoftmax) {
  for (int ranks = 1; ranks <= 8; ++ranks) {
    for (const CachedCase& it :
         {CachedCase{23, 9, 0, 1}, CachedCase{23, 9, 5}, CachedCase{3, 2, 0, 7},
          CachedCase{1, 1, 1}, CachedCase{40, 30, 20}, CachedCase{7, 12, 3}}) {
      SCOPED_TRACE(testing::Message()
                   << ranks << " ranks, " << it.past << " + " << it.queries
                   << ", window " << it.window);
      run_case(it, ranks);
    }
  }
}

// More rows than are computed together, of which some see nothing.
TEST(CachedAttention, LongWindowsAreThePlainSoftmax) {
  run_case({700, 600, 300}, 2);
  run_case({300, 300, 100}, 1);
}

// A query's own key may come with it, to a rank of the caller's choice.
TEST(CachedAttention, NewKeysAreKeptAndSeen) {
  constexpr int kRanks = 3;
  const std::vector<std::vector<Int>> kept = {{2, 1, 0}, {0, 0, 1}};
  const std::vector<std::vector<CachedQuery>> queries = {
      {{0, 3, 2}}, {{1, 1, 0}}, {}};
  const CachedQueries all(queries, kept);
  EXPECT_TRUE(all.asks(1, 0));
  EXPECT_TRUE(all.asks(1, 2));
  EXPECT_FALSE(all.asks(1, 1));
  EXPECT_FALSE(all.asks(2, 0));
  const std::vector<at::Tensor> k = {random(4, kKvHeads, 1),
                                     random(2, kKvHeads, 2)};
  const std::vector<at::Tensor> v = {random(4, kKvHeads, 3),
                                     random(2, kKvHeads, 4)};
  const at::Tensor q = random(2, kHeads, 5);
  comm::run_ranks(kRanks, [&](Rank rank, auto transport) {
    comm::Communicator communicator(std::move(transport));
    std::vector<KvCache> caches(2);
    const std::vector<std::vector<std::vector<Int>>> places = {
        {{0, 2}, {1}, {}}, {{}, {}, {0}}};
    for (std::size_t s = 0; s < 2; ++s) {
      const at::Tensor index = at::tensor(places[s][rank], at::kLong);
      caches[s].append(k[s].index_select(1, index), v[s].index_select(1, index),
                       places[s][rank]);
    }
    const bool asks = rank < 2;
    const auto s = static_cast<std::size_t>(asks ? rank : 0);
    const Int count = asks ? 1 : 0;
    const Int at = asks ? queries[rank][0].position : 0;
    const Partial got = attention_to_caches(
        q.narrow(1, asks ? rank : 0, count), k[s].narrow(1, at, count),
        v[s].narrow(1, at, count), all, caches,
        {.scale = 1 / std::sqrt(double{kHeadDim}), .ahead = 2}, communicator);
    EXPECT_EQ(caches[0].tokens(), rank == 0 ? 2 : 1);
    EXPECT_EQ(caches[1].tokens(), rank == 1 ? 0 : 1);
    if (!asks) return;
    const auto [out, lse] = plain(q[0][rank], k[s], v[s], at, 0);
    EXPECT_TRUE(at::allclose(got.out[0][0], out, 1e-10, 1e-10));
  });
}

TEST(CachedAttention, LowerPrecisionIsNear) {
  const at::Tensor k = random(5000, kKvHeads, 1, at::kBFloat16);
  const at::Tensor v = random(5000, kKvHeads, 2, at::kBFloat16);
  const at::Tensor q = random(1, kHeads, 3, at::kBFloat16);
  const CachedQueries all({{{0, 5000}}}, {{5000}});
  comm::run_ranks(1, [&](Rank, auto transport) {
    comm::Communicator communicator(std::move(transport));
    std::vector<KvCache> caches(1);
    std::vector<Int> positions(5000);
    for (Int i = 0; i < 5000; ++i) positions[static_cast<std::size_t>(i)] = i;
    caches[0].append(k, v, positions);
    const Partial got = attention_to_caches(
        q, {}, {}, all, caches, {.scale = 1 / std::sqrt(double{kHeadDim})},
        communicator);
    EXPECT_EQ(got.out.scalar_type(), at::kFloat);
    const auto [out, lse] = plain(q[0][0].to(at::kDouble), k.to(at::kDouble),
                                  v.to(at::kDouble), 5000, 0);
    EXPECT_TRUE(at::allclose(got.out[0][0].to(at::kDouble), out, 1e-4, 1e-5));
  });
}

TEST(KvCacheTest, GrowsForgetsAndKeepsOrder) {
  KvCache cache;
  const at::Tensor k = random(100, kKvHeads, 1);
  const at::Tensor v = random(100, kKvHeads, 2);
  cache.reserve(8, k);
  const Int reserved = cache.bytes();
  EXPECT_EQ(reserved, 2 * 8 * kKvHeads * kHeadDim * 8);
  Int first = 0;
  for (Int i = 0; i < 100; ++i) {
    cache.append(k.narrow(1, i, 1), v.narrow(1, i, 1), std::vector{2 * i});
    first = std::max<Int>(0, i - 4);
    cache.forget_before(2 * first);
    ASSERT_EQ(cache.tokens(), i + 1 - first);
    EXPECT_TRUE(cache.keys().k.equal(k.narrow(1, first, i + 1 - first)));
    EXPECT_TRUE(cache.keys().v.equal(v.narrow(1, first, i + 1 - first)));
    EXPECT_EQ(cache.positions().front(), 2 * first);
  }
  EXPECT_EQ(cache.bytes(), reserved);
  cache.append(k.narrow(1, 0, 20), v.narrow(1, 0, 20), [] {
    std::vector<Int> positions;
    for (Int i = 0; i < 20; ++i) positions.push_back(500 + i);
    return positions;
  }());
  EXPECT_EQ(cache.tokens(), 25);
  EXPECT_GT(cache.bytes(), reserved);
}

}  // namespace
}  // namespace ringweave::attention
