#include "ringweave/topology/rows.h"

#include <algorithm>
#include <utility>

#include "ringweave/base/error.h"

namespace ringweave::topology {
namespace {

struct Components {
  std::vector<int> of;  // [rank]
  int count = 0;
};

Components components(const Row& a, const Row& b) {
  const int ranks = static_cast<int>(a.size());
  std::vector<int> source(ranks);
  for (int i = 0; i < ranks; ++i) source[a[i]] = i;
  Components result{std::vector<int>(ranks, -1), 0};
  for (int i = 0; i < ranks; ++i) {
    if (result.of[i] >= 0) continue;
    for (int j = i; result.of[j] < 0; j = source[b[j]]) {
      result.of[j] = result.count;
    }
    ++result.count;
  }
  return result;
}

// Not none of the components, and not all of them.
Exchange random_exchange(const Row& a, const Row& b,
                         const Components& components, Random& random) {
  std::vector<char> swapped(components.count, 0);
  do {
    for (int c = 0; c + 1 < components.count; ++c) swapped[c] = random.below(2);
  } while (std::find(swapped.begin(), swapped.end(), 1) == swapped.end());
  Exchange result{a, b};
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (swapped[components.of[i]]) std::swap(result.a[i], result.b[i]);
  }
  result.extra_a = cycle_count(result.a) - 1;
  result.extra_b = cycle_count(result.b) - 1;
  return result;
}

}  // namespace

int cycle_count(const Row& row) {
  std::vector<char> seen(row.size(), 0);
  int cycles = 0;
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (seen[i]) continue;
    ++cycles;
    for (std::size_t j = i; !seen[j]; j = row[j]) seen[j] = 1;
  }
  return cycles;
}

Ring to_ring(const Row& row) {
  ensure(cycle_count(row) == 1, "a row of {} cycles taken for a ring",
         cycle_count(row));
  std::vector<Rank> order;
  Rank rank = 0;
  do {
    order.push_back(rank);
    rank = row[rank];
  } while (rank != 0);
  return Ring(std::move(order));
}

std::optional<Exchange> best_exchange(const Row& a, const Row& b,
                                      Random& random) {
  constexpr int kTries = 8;
  const Components parts = components(a, b);
  if (parts.count < 2) return std::nullopt;
  const int tries = parts.count > 3 ? kTries : (1 << (parts.count - 1)) - 1;
  Exchange best = random_exchange(a, b, parts, random);
  for (int i = 1; i < tries; ++i) {
    Exchange other = random_exchange(a, b, parts, random);
    if (other.extra() < best.extra()) best = std::move(other);
  }
  return best;
}

}  // namespace ringweave::topology
