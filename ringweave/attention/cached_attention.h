// Softmax attention to keys that stay on the ranks that keep them: queries
// travel, and the softmaxes over each rank's keys come back and are merged.
//
// Keys travel (attention.h) where all tokens of a sequence are new. Where few
// new ones follow many, queries are less.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/attention/kernel.h"
#include "ringweave/attention/kv_cache.h"
#include "ringweave/base/range.h"
#include "ringweave/comm/communicator.h"

namespace ringweave::attention {

/// What the operation is called in errors and in comm::Traffic.
inline constexpr const char* kCachedAttention = "attention to a cache";

/// A query: one token of a sequence.
struct CachedQuery {
  std::size_t sequence = 0;
  std::int64_t position = 0;
  /// The rank that adds its key and value to those that it keeps, before the
  /// query is answered; -1: none does.
  Rank keeper = -1;
};

/// The queries of all ranks in one call, which all layers of a step share. All
/// ranks must know the same.
class CachedQueries {
 public:
  /// queries[rank]: those of a sequence follow one another, and ascend.
  /// kept[sequence][rank]: tokens of the sequence whose keys the rank keeps.
  CachedQueries(std::vector<std::vector<CachedQuery>> queries,
                const std::vector<std::vector<std::int64_t>>& kept);

  int ranks() const { return static_cast<int>(queries_.size()); }
  std::span<const CachedQuery> of(Rank rank) const { return queries_[rank]; }
  /// Whether `to` keeps keys, also new ones, for a query of `from`.
  bool asks(Rank from, Rank to) const { return asks_[from][to]; }
  /// Queries of `from` whose keys `to` will keep, by their indices.
  const std::vector<std::int64_t>& given(Rank from, Rank to) const {
    return given_[from][to];
  }

 private:
  std::vector<std::vector<CachedQuery>> queries_;
  std::vector<std::vector<bool>> asks_;
  std::vector<std::vector<std::vector<std::int64_t>>> given_;
};

struct CachedOptions {
  /// A query sees so many tokens, itself and those before it; 0: all.
  std::int64_t sliding_window = 0;
  double scale = 1;  ///< above 0
  /// Queries of so many other ranks are in this rank's memory at a time.
  int ahead = 2;
};

/// q: (1, queries of this rank, heads, head_dim); k, v: (1, queries, kv_heads,
/// head_dim), of the queries with a keeper, undefined if there are none; of one
/// type out of fp64, fp32, bf16, fp16. caches[sequence]: of this rank. No key
/// that is there is behind a query of its sequence.
///
/// Returns the softmax over all keys that the ranks keep, also the new ones: in
/// the accumulate type, with out 0 and lse -inf for a query that sees none. No
/// gradients. Every rank must call it, with the same queries and options, in
/// the same order. Blocks; throws CommError at a time-out, and as
/// Communicator::call().
Partial attention_to_caches(const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const CachedQueries& queries,
                            std::span<KvCache> caches,
                            const CachedOptions& options,
                            comm::Communicator& communicator);

}  // namespace ringweave::attention
