#include "ringweave/schedule/strategy/hierarchical_stops.h"

#include "ringweave/base/error.h"

namespace ringweave::schedule {

Stops::Stops(const Hierarchy& hierarchy, const Demand& demand)
    : hierarchy_(hierarchy), demand_(demand), strands_(hierarchy.strands()) {
  ensure(
      demand.ranks() == hierarchy.ranks() &&
          (is_direct() || hierarchy.inner->ranks() == hierarchy.ranks_per_node),
      "a hierarchy of {} ranks, demand of {}", hierarchy.ranks(),
      demand.ranks());
}

Rank Stops::rank_at(const Stop& at) const {
  const int m = hierarchy_.ranks_per_node;
  const int node = (at.block.owner / m + at.phase) % hierarchy_.nodes;
  const int holder = at.block.owner % m;
  return node * m + (is_direct() ? (holder + at.index) % m
                                 : hierarchy_.inner->at(piece(at.block), holder,
                                                        at.index));
}

Rank Stops::owner_at(int strand, Rank rank, int phase, int index) const {
  const int m = hierarchy_.ranks_per_node;
  const int node = (rank / m - phase + hierarchy_.nodes) % hierarchy_.nodes;
  const int local = rank % m;
  return node * m +
         (is_direct() ? (local - index + m) % m
                      : hierarchy_.inner->owner_at(
                            strand % hierarchy_.inner_strands(), local, index));
}

int Stops::last_index(const BlockId& block, int phase) const {
  int index = hierarchy_.ranks_per_node - 1;
  while (index > 0 && !needs({block, phase, index})) --index;
  return index;
}

int Stops::first_index(const BlockId& block, int phase) const {
  int index = 1;
  while (index < hierarchy_.ranks_per_node && !needs({block, phase, index})) {
    ++index;
  }
  return index;
}

bool Stops::node_needs(const BlockId& block, int phase) const {
  return last_index(block, phase) > 0 || needs({block, phase, 0});
}

int Stops::last_phase(const BlockId& block) const {
  int phase = hierarchy_.nodes - 1;
  while (phase > 0 && !node_needs(block, phase)) --phase;
  return phase;
}

int Stops::first_phase(const BlockId& block) const {
  int phase = 1;
  while (phase < hierarchy_.nodes && !node_needs(block, phase)) ++phase;
  return phase;
}

bool Stops::is_on_the_way(const Stop& at) const {
  if (at.index == 0) return false;
  return is_direct() ? needs(at) : at.index <= last_index(at.block, at.phase);
}

}  // namespace ringweave::schedule
