// Walks of blocks over ranks: every rank passes on what it has received.
//
// A shard is cut into strands, and each strand of each owner walks over all
// ranks, one hop per step. In every step each rank holds exactly one block of
// each strand.
#pragma once

#include <optional>
#include <vector>

#include "ringweave/base/json.h"
#include "ringweave/base/range.h"
#include "ringweave/schedule/strategy/finite_field.h"
#include "ringweave/topology/ring.h"

namespace ringweave::schedule {

/// Immutable. After t steps, 0 <= t < ranks(), the block (owner, strand) is at
/// rank at(strand, owner, t); at(strand, owner, 0) is the owner.
class Walks {
 public:
  /// cycles: strand s always follows ring s. walks: a strand's cycle changes
  /// from step to step.
  enum class Kind { cycles, walks };

  /// One strand on each ring. Throws InvalidArgument unless there is at least
  /// one ring and all have the same size.
  static Walks along(std::vector<topology::Ring> rings);
  /// at(s, o, t) = o + offsets[s][t] in the group. Throws InvalidArgument
  /// unless each strand's offsets start with 0 and name each element once.
  static Walks translated(DigitGroup group,
                          std::vector<std::vector<int>> offsets);

  Kind kind() const { return group_ ? Kind::walks : Kind::cycles; }
  int ranks() const;
  int strands() const;
  /// Of Kind::cycles; else empty.
  const std::vector<topology::Ring>& rings() const { return rings_; }

  /// All arguments must be in range; unchecked but for the rank.
  Rank at(int strand, Rank owner, int step) const;
  /// The owner of the block that `rank` holds, and the step in which `rank`
  /// holds the owner's block: inverses of at().
  Rank owner_at(int strand, Rank rank, int step) const;
  int step_at(int strand, Rank owner, Rank rank) const;

 private:
  Walks() = default;

  std::vector<topology::Ring> rings_;
  std::optional<DigitGroup> group_;
  std::vector<topology::Ring> offsets_;  // [strand], in the order of steps
};

/// One strand, r → r + 1, or r → r - 1 if `reverse`. ranks >= 1.
Walks ring_walks(int ranks, bool reverse);

/// Most ranks of time_varying_walks, which take memory quadratic in them.
inline constexpr int kMaxWalkedRanks = 4096;

/// ranks - 1 strands (one, if there is one rank) that use each link exactly
/// once in every step, their cycles changing from step to step. Throws
/// NoSolution unless `ranks` is 1, 6 or a prime power, and InvalidArgument
/// above kMaxWalkedRanks.
Walks time_varying_walks(int ranks);

/// The same on n - 1 link-disjoint rings where they exist; else (4 and 6 ranks)
/// time_varying_walks.
Walks multi_ring_walks(int ranks);

/// How the links of a full mesh are shared out, for ranks >= 2:
/// {"ranks", "kind": "cycles" | "walks", "cycles": ranks - 1 rank orders, empty
/// for 4 and 6, "walks": [strand][owner][step] of multi_ring_walks}.
Json decomposition_json(int ranks);

}  // namespace ringweave::schedule
