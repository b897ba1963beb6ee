#include "ringweave/schedule/strategy/walks.h"

#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/topology/decomposition.h"

namespace ringweave::schedule {
namespace {

using topology::Ring;

void check_ranks(int ranks) {
  require(ranks >= 1, "[walks] got {} ranks; want at least 1", ranks);
}

// Strand r stands at o + r·x_t after t steps, where x_1, x_2, … are the
// non-zero elements: its hop of step t is r·(x_t - x_{t-1}), which takes every
// non-zero value as r does.
Walks field_walks(int ranks) {
  const FiniteField field(ranks);
  std::vector<std::vector<int>> offsets;
  for (int factor = 1; factor < ranks; ++factor) {
    std::vector<int> strand(ranks);
    for (int t = 0; t < ranks; ++t) strand[t] = field.multiply(factor, t);
    offsets.push_back(std::move(strand));
  }
  return Walks::translated(field.addition(), std::move(offsets));
}

// Found by exhaustive search: row s holds the hops of strand s, each column
// the numbers 1 … 5, and no two partial sums of a row are equal modulo 6.
Walks six_walks() {
  constexpr int kHops[5][5] = {{1, 1, 1, 1, 1},
                               {2, 2, 3, 2, 2},
                               {3, 5, 2, 3, 4},
                               {4, 3, 4, 4, 5},
                               {5, 4, 5, 5, 3}};
  std::vector<std::vector<int>> offsets;
  for (const auto& hops : kHops) {
    std::vector<int> strand = {0};
    for (const int hop : hops) strand.push_back((strand.back() + hop) % 6);
    offsets.push_back(std::move(strand));
  }
  return Walks::translated(DigitGroup(6, 1), std::move(offsets));
}

}  // namespace

Walks Walks::along(std::vector<Ring> rings) {
  require(!rings.empty(), "[walks] got no rings; want at least 1");
  for (const Ring& ring : rings) {
    require(ring.size() == rings[0].size(),
            "[walks] got rings of {} and {} ranks; want one size",
            rings[0].size(), ring.size());
  }
  Walks walks;
  walks.rings_ = std::move(rings);
  return walks;
}

Walks Walks::translated(DigitGroup group,
                        std::vector<std::vector<int>> offsets) {
  require(!offsets.empty(), "[walks] got no offsets; want at least 1 strand");
  Walks walks;
  for (std::vector<int>& strand : offsets) {
    require(static_cast<int>(strand.size()) == group.size() && strand[0] == 0,
            "[walks] got {} offsets of a strand; want {}, the first 0",
            strand.size(), group.size());
    walks.offsets_.emplace_back(std::move(strand));  // want a permutation
  }
  walks.group_ = group;
  return walks;
}

int Walks::ranks() const { return group_ ? group_->size() : rings_[0].size(); }

int Walks::strands() const {
  return static_cast<int>(group_ ? offsets_.size() : rings_.size());
}

Rank Walks::at(int strand, Rank owner, int step) const {
  return group_ ? group_->add(owner, offsets_[strand].order()[step])
                : rings_[strand].after(owner, step);
}

Rank Walks::owner_at(int strand, Rank rank, int step) const {
  return group_ ? group_->subtract(rank, offsets_[strand].order()[step])
                : rings_[strand].after(rank, -step);
}

int Walks::step_at(int strand, Rank owner, Rank rank) const {
  return group_ ? offsets_[strand].hops(0, group_->subtract(rank, owner))
                : rings_[strand].hops(owner, rank);
}

Walks ring_walks(int ranks, bool reverse) {
  check_ranks(ranks);
  std::vector<Rank> order(ranks);
  for (int i = 0; i < ranks; ++i) order[i] = reverse ? ranks - 1 - i : i;
  return Walks::along({Ring(std::move(order))});
}

Walks time_varying_walks(int ranks) {
  check_ranks(ranks);
  if (ranks == 1) return ring_walks(1, false);
  if (ranks == 6) return six_walks();
  if (!prime_power(ranks)) {
    throw NoSolution(fmt::format(
        "[time_varying_multi_ring] got {} ranks; want 1, 6 or a power of a "
        "prime",
        ranks));
  }
  require(ranks <= kMaxWalkedRanks,
          "[time_varying_multi_ring] got {} ranks; want at most {}", ranks,
          kMaxWalkedRanks);
  return field_walks(ranks);
}

Walks multi_ring_walks(int ranks) {
  check_ranks(ranks);
  if (ranks == 1) return ring_walks(1, false);
  if (ranks == 4 || ranks == 6) return time_varying_walks(ranks);
  return Walks::along(topology::link_disjoint_rings(ranks));
}

Json decomposition_json(int ranks) {
  require(ranks >= 2, "[decompose] got {} ranks; want at least 2", ranks);
  const Walks walks = multi_ring_walks(ranks);
  Json cycles = Json::array();
  for (const Ring& ring : walks.rings()) cycles.push_back(ring.order());
  Json strands = Json::array();
  for (int strand = 0; strand < walks.strands(); ++strand) {
    Json owners = Json::array();
    for (Rank owner = 0; owner < ranks; ++owner) {
      std::vector<Rank> walk(ranks);
      for (int t = 0; t < ranks; ++t) walk[t] = walks.at(strand, owner, t);
      owners.push_back(std::move(walk));
    }
    strands.push_back(std::move(owners));
  }
  const bool cyclic = walks.kind() == Walks::Kind::cycles;
  return {{"ranks", ranks},
          {"kind", cyclic ? "cycles" : "walks"},
          {"cycles", std::move(cycles)},
          {"walks", std::move(strands)}};
}

}  // namespace ringweave::schedule
