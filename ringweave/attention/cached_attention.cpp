#include "ringweave/attention/cached_attention.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <ATen/ATen.h>

#include "ringweave/attention/merge.h"
#include "ringweave/base/error.h"
#include "ringweave/comm/questions.h"
#include "ringweave/device/tensor_buffer.h"
#include "ringweave/tensor/scalar_type.h"
#include "ringweave/tensor/threads.h"

namespace ringweave::attention {
namespace {

/// Rows of a window that are computed together: between the first and the last
/// one's first key each key needs a bias per row.
constexpr std::int64_t kWindowRows = 256;
/// Keys that are converted at a time, if the kernels take another type.
constexpr std::int64_t kConvertedKeys = 4096;

/// Of the inputs' type if kernels take it, else of its accumulate type.
at::ScalarType tile_type(const at::Tensor& q) {
  return has_kernel({q.device(), q.scalar_type(), q.size(-1)}, {{0, 1}, {0, 1}})
             ? q.scalar_type()
             : tensor::accumulate_type(q.scalar_type());
}

/// Queries of one sequence against the keys of one rank.
class Attend {
 public:
  Attend(const at::Tensor& q, std::span<const CachedQuery> queries,
         const KvCache& cache, const CachedOptions& options,
         const Partial& total)
      : type_(tile_type(q)),
        q_(q.to(type_)),
        queries_(queries),
        positions_(cache.positions()),
        keys_(cache.keys()),
        options_(options),
        total_(total) {}

  void run() const {
    const auto rows = static_cast<std::int64_t>(queries_.size());
    const auto keys = static_cast<std::int64_t>(positions_.size());
    if (keys == 0) return;
    if (options_.sliding_window == 0) return add({0, rows}, {0, keys});
    for (std::int64_t row = 0; row < rows; row += kWindowRows) {
      const Range block = {row, std::min(rows, row + kWindowRows)};
      const std::int64_t first = first_key(block.begin);
      const std::int64_t last = first_key(block.end - 1);
      add_edge(block, {first, last});
      add(block, {last, keys});
    }
  }

 private:
  std::int64_t first_seen(std::int64_t row) const {
    return queries_[static_cast<std::size_t>(row)].position -
           options_.sliding_window + 1;
  }
  /// Index of the first key that the window of a row has.
  std::int64_t first_key(std::int64_t row) const {
    return std::ranges::lower_bound(positions_, first_seen(row)) -
           positions_.begin();
  }

  Partial part(const Range& rows) const {
    return {total_.out.narrow(1, rows.begin, rows.size()),
            total_.lse.narrow(2, rows.begin, rows.size())};
  }

  Tile tile(const Range& rows, const Range& keys) const {
    const auto take = [&](const at::Tensor& x) {
      return x.narrow(1, keys.begin, keys.size()).to(type_);
    };
    return {.q = q_.narrow(1, rows.begin, rows.size()),
            .k = take(keys_.k),
            .v = take(keys_.v),
            .scale = options_.scale};
  }

  /// All rows see all keys.
  void add(const Range& rows, const Range& keys) const {
    const std::int64_t most =
        keys_.k.scalar_type() == type_ ? keys.size() : kConvertedKeys;
    for (std::int64_t at = keys.begin; at < keys.end; at += most) {
      merge(rows, tile(rows, {at, std::min(keys.end, at + most)}));
    }
  }

  /// Rows of a window that begins among the keys, or behind all of them.
  void add_edge(const Range& rows, const Range& keys) const {
    if (keys.empty()) return;
    Tile edge = tile(rows, keys);
    std::vector<std::int64_t> seen;
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
      seen.push_back(first_seen(row));
    }
    const auto of_keys =
        positions_.subspan(static_cast<std::size_t>(keys.begin),
                           static_cast<std::size_t>(keys.size()));
    const at::Tensor hidden =
        at::tensor(at::ArrayRef(of_keys.data(), of_keys.size()), at::kLong) <
        at::tensor(seen, at::kLong).unsqueeze(1);
    const at::Tensor blind = hidden.all(1);
    // No kernel takes a row that sees nothing: it sees all, and is cleared.
    edge.bias =
        at::zeros(hidden.sizes(), edge.q.options())
            .masked_fill_(hidden.logical_and(blind.logical_not().unsqueeze(1)),
                          -std::numeric_limits<double>::infinity());
    merge(rows, edge, blind);
  }

  void merge(const Range& rows, const Tile& tile,
             const at::Tensor& blind = {}) const {
    const schedule::Area area = {{0, tile.q.size(1)}, {0, tile.k.size(1)}};
    Partial result =
        choose_kernel({tile.q.device(), type_, tile.q.size(-1)}, area)
            .kernel->forward(tile);
    if (blind.defined()) clear(result, blind);
    result.out = result.out.to(total_.out.scalar_type());
    merge_into(part(rows), result);
  }

  at::ScalarType type_;
  at::Tensor q_;
  std::span<const CachedQuery> queries_;
  std::span<const std::int64_t> positions_;
  KvPair keys_;
  const CachedOptions& options_;
  const Partial& total_;
};

/// One call on one rank.
class CachedCall final : public comm::Questions {
 public:
  CachedCall(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
             const CachedQueries& queries, std::span<KvCache> caches,
             const CachedOptions& options, Rank rank)
      : q_(q.contiguous()),
        k_(k),
        v_(v),
        queries_(queries),
        caches_(caches),
        options_(options),
        rank_(rank),
        type_(tensor::accumulate_type(q.scalar_type())),
        result_(empty_partial(q.size(1))) {
    clear(result_);
  }

  std::size_t question_bytes(Rank from, Rank to) const override {
    if (!queries_.asks(from, to)) return 0;
    const auto given =
        static_cast<std::int64_t>(queries_.given(from, to).size());
    const std::int64_t numbers =
        rows(from) * q_.size(2) * q_.size(3) + 2 * given * kv_numbers();
    return static_cast<std::size_t>(numbers) * q_.itemsize();
  }
  std::size_t answer_bytes(Rank from, Rank) const override {
    return static_cast<std::size_t>(rows(from) * q_.size(2) *
                                    (q_.size(3) + 1)) *
           c10::elementSize(type_);
  }

  device::Buffer question(Rank to) override {
    const auto& given = queries_.given(rank_, to);
    if (given.empty()) return device::buffer_of(q_);
    const at::Tensor index = at::tensor(given, at::kLong);
    return device::buffer_of(
        at::cat({q_.flatten(), k_.index_select(1, index).flatten(),
                 v_.index_select(1, index).flatten()}));
  }

  void answer(Rank from, const device::Buffer& question,
              const device::Buffer& answer) override {
    const at::Tensor numbers = device::tensor_of(
        question, {static_cast<std::int64_t>(question.size / q_.itemsize())},
        q_.scalar_type());
    const at::Tensor q =
        numbers.narrow(0, 0, rows(from) * q_.size(2) * q_.size(3))
            .view({1, rows(from), q_.size(2), q_.size(3)});
    keep(from, numbers.narrow(0, q.numel(), numbers.numel() - q.numel()));
    const Partial partial = partial_in(answer, rows(from));
    clear(partial);
    attend(q, from, partial);
  }

  void own() override {
    const auto& given = queries_.given(rank_, rank_);
    if (!given.empty()) {
      const at::Tensor index = at::tensor(given, at::kLong);
      keep(rank_, at::cat({k_.index_select(1, index).flatten(),
                           v_.index_select(1, index).flatten()}));
    }
    if (queries_.asks(rank_, rank_)) attend(q_, rank_, result_);
  }

  void take(Rank, const device::Buffer& answer) override {
    merge_into(result_, partial_in(answer, rows(rank_)));
  }

  const Partial& result() const { return result_; }

 private:
  std::int64_t rows(Rank rank) const {
    return static_cast<std::int64_t>(queries_.of(rank).size());
  }
  /// Of one token's keys.
  std::int64_t kv_numbers() const {
    return k_.defined() ? k_.size(2) * k_.size(3) : 0;
  }

  Partial empty_partial(std::int64_t rows) const {
    const at::TensorOptions options = q_.options().dtype(type_);
    return {at::empty({1, rows, q_.size(2), q_.size(3)}, options),
            at::empty({1, rows, q_.size(2)}, options).transpose(1, 2)};
  }
  /// The same, where an answer lies.
  Partial partial_in(const device::Buffer& buffer, std::int64_t rows) const {
    const std::int64_t heads = q_.size(2);
    const std::int64_t numbers = rows * heads * q_.size(3);
    const at::Tensor all =
        device::tensor_of(buffer, {numbers + rows * heads}, type_);
    return {all.narrow(0, 0, numbers).view({1, rows, heads, q_.size(3)}),
            all.narrow(0, numbers, rows * heads)
                .view({1, rows, heads})
                .transpose(1, 2)};
  }

  /// `numbers`: the keys of the queries that `from` gives, then the values.
  void keep(Rank from, const at::Tensor& numbers) {
    const auto& given = queries_.given(from, rank_);
    if (given.empty()) return;
    const at::Tensor kv = numbers.view(
        {2, static_cast<std::int64_t>(given.size()), k_.size(2), k_.size(3)});
    const auto queries = queries_.of(from);
    for (std::size_t i = 0; i < given.size(); ++i) {
      const CachedQuery& query = queries[static_cast<std::size_t>(given[i])];
      const at::Tensor one = kv.narrow(1, static_cast<std::int64_t>(i), 1);
      caches_[query.sequence].append(one.narrow(0, 0, 1), one.narrow(0, 1, 1),
                                     std::span(&query.position, 1));
    }
  }

  /// Sequence by sequence.
  void attend(const at::Tensor& q, Rank from, const Partial& total) const {
    const auto queries = queries_.of(from);
    for (std::size_t begin = 0, end = 0; begin < queries.size(); begin = end) {
      const std::size_t sequence = queries[begin].sequence;
      while (end < queries.size() && queries[end].sequence == sequence) ++end;
      const auto at = static_cast<std::int64_t>(begin);
      const auto count = static_cast<std::int64_t>(end - begin);
      Attend(q.narrow(1, at, count), queries.subspan(begin, end - begin),
             caches_[sequence], options_,
             {total.out.narrow(1, at, count), total.lse.narrow(2, at, count)})
          .run();
    }
  }

  at::Tensor q_, k_, v_;
  const CachedQueries& queries_;
  std::span<KvCache> caches_;
  const CachedOptions& options_;
  Rank rank_;
  at::ScalarType type_;  ///< of sums
  Partial result_;
};

/// What of one call all ranks must have equal.
comm::Facts facts_of(const at::Tensor& q, const CachedQueries& queries,
                     const CachedOptions& options) {
  std::string counts;
  for (Rank rank = 0; rank < queries.ranks(); ++rank) {
    counts +=
        fmt::format("{}{}", rank == 0 ? "" : " ", queries.of(rank).size());
  }
  return {{"queries of each rank", comm::abridged(counts)},
          {"heads", fmt::format("{}", q.size(2))},
          {"head_dim", fmt::format("{}", q.size(3))},
          {"type", c10::toString(q.scalar_type())},
          {"window", fmt::format("{}", options.sliding_window)},
          {"scale", fmt::format("{}", options.scale)}};
}

}  // namespace

CachedQueries::CachedQueries(std::vector<std::vector<CachedQuery>> queries,
                             const std::vector<std::vector<std::int64_t>>& kept)
    : queries_(std::move(queries)),
      asks_(queries_.size(), std::vector<bool>(queries_.size())),
      given_(queries_.size(),
             std::vector<std::vector<std::int64_t>>(queries_.size())) {
  for (Rank from = 0; from < ranks(); ++from) {
    for (std::size_t i = 0; i < queries_[from].size(); ++i) {
      const CachedQuery& query = queries_[from][i];
      for (Rank to = 0; to < ranks(); ++to) {
        if (kept[query.sequence][to] > 0) asks_[from][to] = true;
      }
      if (query.keeper < 0) continue;
      asks_[from][query.keeper] = true;
      given_[from][query.keeper].push_back(static_cast<std::int64_t>(i));
    }
  }
}

Partial attention_to_caches(const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const CachedQueries& queries,
                            std::span<KvCache> caches,
                            const CachedOptions& options,
                            comm::Communicator& communicator) {
  tensor::take_over_thread_count();
  CachedCall call(q, k, v, queries, caches, options, communicator.rank());
  communicator.call(
      kCachedAttention, 0,
      [&] {
        ensure(queries.ranks() == communicator.size() &&
                   q.size(1) == static_cast<std::int64_t>(
                                    queries.of(communicator.rank()).size()),
               "{} queries in a call of {}", q.size(1),
               queries.of(communicator.rank()).size());
      },
      [&] { return facts_of(q, queries, options); },
      [&](std::int64_t) {
        comm::ask_all(communicator, call, options.ahead, kCachedAttention);
      });
  return call.result();
}

}  // namespace ringweave::attention
