// A switching search. The links are kept as n - 1 rows, permutations without
// fixed points: row[i] is where rank i sends. Rows are exchanged piece by
// piece until each is a single cycle; whatever is exchanged, all rows together
// hold every link once.
//
// Up to 128 ranks the search starts from the rows i -> i + s. Their surplus
// cycles grow faster than the ranks, so above that it starts from zigzags:
// rings already, but for three cycles of one row if the ranks are even.
#include "ringweave/topology/decomposition.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <optional>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/topology/random.h"
#include "ringweave/topology/rows.h"

namespace ringweave::topology {
namespace {

constexpr int kShiftedRanks = 128;

bool is_odd(const Row& row) {
  return (static_cast<int>(row.size()) - cycle_count(row)) % 2 != 0;
}

// A random perfect matching of the union of some rows: a row made of their
// links.
Row random_matching(const std::vector<Row>& rows, Random& random) {
  const int n = static_cast<int>(rows[0].size());
  Row target(n, -1);
  Row source(n, -1);
  std::vector<int> seen(n, -1);
  const auto augment = [&](const auto& self, int from, int round) -> bool {
    const int first = random.below(static_cast<int>(rows.size()));
    for (std::size_t k = 0; k < rows.size(); ++k) {
      const int to = rows[(first + k) % rows.size()][from];
      if (seen[to] == round) continue;
      seen[to] = round;
      if (source[to] < 0 || self(self, source[to], round)) {
        target[from] = to;
        source[to] = from;
        return true;
      }
    }
    return false;
  };
  std::vector<int> sources(n);
  std::iota(sources.begin(), sources.end(), 0);
  random.shuffle(sources);
  for (const int from : sources) {
    // A regular bipartite graph always has a perfect matching.
    ensure(augment(augment, from, from), "no matching for rank {}", from);
  }
  return target;
}

// Splits what is left of three rows without `taken` into two rows.
std::pair<Row, Row> split_rest(const std::vector<Row>& rows, const Row& taken) {
  const int n = static_cast<int>(taken.size());
  std::vector<std::vector<int>> out(n);
  std::vector<std::vector<int>> in(n);
  for (int i = 0; i < n; ++i) {
    for (const Row& row : rows) {
      if (row[i] == taken[i]) continue;
      out[i].push_back(row[i]);
      in[row[i]].push_back(i);
    }
  }
  Row a(n, -1);
  Row b(n, -1);
  for (int start = 0; start < n; ++start) {
    int from = start;
    int to = out[from][0];
    while (a[from] < 0) {
      a[from] = to;
      b[from] = out[from][0] == to ? out[from][1] : out[from][0];
      to = b[from];  // its other source must reach it by row a
      from = in[to][0] == from ? in[to][1] : in[to][0];
    }
  }
  return {std::move(a), std::move(b)};
}

std::vector<Row> shift_rows(int ranks) {
  std::vector<Row> rows;
  for (int shift = 1; shift < ranks; ++shift) {
    Row row(ranks);
    for (int i = 0; i < ranks; ++i) row[i] = (i + shift) % ranks;
    rows.push_back(std::move(row));
  }
  return rows;
}

// Walecki's rings for an odd number of ranks: with m even and all sums mod m,
// ring j is a, j, j+1, j-1, j+2, j-2, …, j+m/2. For an even number there is one
// rank more, b, which ring j passes on its way from j+1 to j-1. That frees the
// links i -> i - 2; with a -> b -> a they are the last row, of three cycles.
// All rows are odd permutations then, as rings of an even number of ranks are,
// so that exchanges, which keep the number of odd rows modulo 2, can do the
// rest.
//
// Ranks are shuffled first: rings that pass all near ranks in a row make those
// that need a part under a causal mask hard to find on a walk.
std::vector<Row> zigzag_rows(const std::vector<Rank>& rank) {
  const int ranks = static_cast<int>(rank.size());
  const bool even = ranks % 2 == 0;
  const int m = even ? ranks - 2 : ranks - 1;
  const Rank a = rank[m];
  const Rank b = rank.back();
  std::vector<Row> rows;
  for (int j = 0; j < m; ++j) {
    Row row(ranks);
    Rank at = a;
    for (int k = 0; k < m; ++k) {
      const int next = j + (k % 2 != 0 ? (k + 1) / 2 : m - k / 2);
      row[at] = rank[next % m];
      at = row[at];
    }
    row[at] = a;
    if (even) row[b] = std::exchange(row[rank[(j + 1) % m]], b);
    rows.push_back(std::move(row));
  }
  if (!even) return rows;
  Row last(ranks);
  for (int i = 0; i < m; ++i) last[rank[i]] = rank[(i + m - 2) % m];
  last[a] = b;
  last[b] = a;
  rows.push_back(std::move(last));
  return rows;
}

class FamilySearch {
 public:
  FamilySearch(int ranks, std::uint64_t seed)
      : ranks_(ranks), zigzag_(ranks > kShiftedRanks), random_(seed) {
    rows_ = zigzag_ ? zigzag_rows(shuffled(ranks)) : shift_rows(ranks);
    // Exchanges between two rows keep the number of odd rows modulo 2: n/2 at
    // the start, n - 1 wanted.
    if (!zigzag_ && ranks % 4 == 0) repair_parity();
    for (const Row& row : rows_) extra_.push_back(cycle_count(row) - 1);
    total_extra_ = std::accumulate(extra_.begin(), extra_.end(), 0);
  }

  bool run(int iterations) {
    for (int i = 0; i < iterations && total_extra_ > 0; ++i) step();
    return total_extra_ == 0;
  }

  const std::vector<Row>& rows() const { return rows_; }

 private:
  std::vector<Rank> shuffled(int ranks) {
    std::vector<Rank> order(ranks);
    std::iota(order.begin(), order.end(), 0);
    random_.shuffle(order);
    return order;
  }

  void repair_parity() {
    std::vector<int> order(rows_.size());
    std::iota(order.begin(), order.end(), 0);
    for (bool repaired = false; !repaired;) {
      random_.shuffle(order);
      const std::vector<Row> old = {rows_[order[0]], rows_[order[1]],
                                    rows_[order[2]]};
      Row matching = random_matching(old, random_);
      auto [a, b] = split_rest(old, matching);
      const int before = is_odd(old[0]) + is_odd(old[1]) + is_odd(old[2]);
      const int after = is_odd(matching) + is_odd(a) + is_odd(b);
      repaired = (before - after) % 2 != 0;
      if (!repaired) continue;
      rows_[order[0]] = std::move(matching);
      rows_[order[1]] = std::move(a);
      rows_[order[2]] = std::move(b);
    }
  }

  void step() {
    std::vector<int> unfinished;
    for (int row = 0; row < ranks_ - 1; ++row) {
      if (extra_[row] > 0) unfinished.push_back(row);
    }
    const int a =
        unfinished[random_.below(static_cast<int>(unfinished.size()))];
    int b = random_.below(ranks_ - 1);
    // Two rows of two cycles can only be mended together, which chance among
    // many rows seldom tries.
    if (zigzag_ && unfinished.size() > 1 && random_.below(2) == 0) {
      b = unfinished[random_.below(static_cast<int>(unfinished.size()))];
    }
    if (a == b) return;
    std::optional<Exchange> found = best_exchange(rows_[a], rows_[b], random_);
    if (!found) return;
    Exchange& best = *found;
    const int rise = best.extra() - extra_[a] - extra_[b];
    // A worse one is taken with probability 1/(50·(1 + rise)), to leave dead
    // ends; from zigzags never: among many rows it would get worse without end.
    if (rise > 0 && (zigzag_ || random_.below(50 * (1 + rise)) != 0)) return;
    rows_[a] = std::move(best.a);
    rows_[b] = std::move(best.b);
    extra_[a] = best.extra_a;
    extra_[b] = best.extra_b;
    total_extra_ += rise;
  }

  int ranks_;
  bool zigzag_;
  Random random_;
  std::vector<Row> rows_;
  std::vector<int> extra_;  // cycles of each row beyond the first
  int total_extra_ = 0;
};

}  // namespace

std::vector<Ring> link_disjoint_rings(int ranks) {
  require(ranks >= 2 && ranks <= kMaxDecomposedRanks,
          "[link_disjoint_rings] got {} ranks; want 2 … {}", ranks,
          kMaxDecomposedRanks);
  if (ranks == 4 || ranks == 6) {
    throw NoSolution(
        fmt::format("[link_disjoint_rings] got {} ranks; the links of 4 or 6 "
                    "ranks can't be "
                    "split into rings: at most {} of {} rings share no link",
                    ranks, ranks - 2, ranks - 1));
  }
  const int iterations = ranks > 64 ? 250'000 : 50'000;
  constexpr int kSeeds = 20;
  for (int seed = 0; seed < kSeeds; ++seed) {
    FamilySearch search(ranks, seed);
    if (!search.run(iterations)) continue;
    std::vector<Ring> rings;
    for (const Row& row : search.rows()) rings.push_back(to_ring(row));
    return rings;
  }
  throw InternalError(fmt::format(
      "bug in ringweave: no rings for {} ranks in {} searches", ranks, kSeeds));
}

}  // namespace ringweave::topology
