// What travels where ranks compose states and pass on the result.
//
// A segment maps the state before it to the one after it, S to A ⊙ S + U, and
// so do consecutive segments: (A, U), then (A', U'), is (A' ⊙ A, A' ⊙ U + U').
// A way says which composed segments each rank sends to which. What a rank can
// compose at a time follows from its own segments and from what has arrived by
// then: Holdings. The proof asks whether it can, the compiler how.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <tuple>
#include <vector>

#include "ringweave/base/range.h"
#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/exchange/state_demand.h"

namespace ringweave::schedule {

/// Consecutive segments as one.
struct Composed {
  /// Counted in the order of the pass: forward that of the sequence, backward
  /// its reverse. From the first one on it is a state, which starts from the
  /// initial one, and whose decay nobody asks for.
  Range places;
  int slice = 0;       ///< which rows of the state
  bool decay = false;  ///< the logarithm of its decay; else its update
  friend bool operator==(const Composed&, const Composed&) = default;
};

/// The blocks of a way: what each is, and who needs it. Numbers of a block that
/// is none have size 0.
class ScanDemand : public Demand {
 public:
  /// Rows are cut into `slices` by strand_rows(). Throws InvalidArgument for
  /// less than one rank, slice, row or column, for ranks and parts of segments
  /// out of range, and for a segment that is named twice.
  ScanDemand(StateDemand states, int slices);

  /// Strands that blocks are numbered by, whatever they stand for.
  virtual int strands() const = 0;
  /// nullopt: there is no such block.
  virtual std::optional<Composed> content(const BlockId& block) const = 0;
  /// Of one that there is.
  Composed composed(const BlockId& block) const;
  /// Whether the rank knows a segment's decay although it is not its own.
  virtual bool brought_by_forward(Rank rank, int place, int slice) const {
    return false;
  }

  int ranks() const final { return states_.ranks; }
  /// `strands`: strands(); the block's strand decides alone.
  std::int64_t size(const BlockId& block, int strands) const final;

  const StateDemand& states() const { return states_; }
  int places() const { return static_cast<int>(order_.size()); }
  const StateDemand::Segment& segment(int place) const { return order_[place]; }
  int slices() const { return slices_; }
  Range rows(int slice) const {
    return strand_rows(states_.summary.rows, slice, slices_);
  }
  /// The numbers of a segment's decay that these rows use.
  Range decays(int slice) const;
  /// Whether decays depend on tokens, so that not all ranks know all of them.
  bool has_decays() const { return states_.summary.decays > 0; }
  bool knows_decay(Rank rank, int place, int slice) const {
    return order_[place].rank == rank || brought_by_forward(rank, place, slice);
  }

  /// Of its transfer: only the state after all segments is not composed any
  /// further.
  Action action(const Composed& what) const {
    const bool all = what.places == Range{0, places()};
    return all ? Action::copy : Action::compose;
  }

  int segments_of(Rank rank) const { return counts_[rank]; }
  /// Whether the rank needs the state after all segments. The one that holds
  /// the last of them has it.
  bool needs_end(Rank rank) const;
  /// What the exchange is for: the states before the rank's own segments but
  /// that before the first of all, and the one after all if it needs that.
  /// Slice by slice.
  std::vector<Composed> results(Rank rank) const;

 private:
  StateDemand states_;
  int slices_;
  std::vector<StateDemand::Segment> order_;  // that of the pass
  std::vector<int> counts_;                  // [rank]
};

/// What one rank has of a scan: its own segments, and blocks.
class Holdings {
 public:
  struct Piece {
    Range places;
    /// nullopt: the rank's own segment, or a decay that it knows.
    std::optional<BlockId> block;
  };

  /// `demand` must outlive this.
  Holdings(const ScanDemand& demand, Rank rank)
      : demand_(demand), rank_(rank) {}

  /// What arrived, or was composed here. The demand has such a block.
  void add(const BlockId& block);

  /// The fewest pieces, in order, that make up `what`: of updates, all but the
  /// first with decays that can be made up as well. nullopt: there are none.
  std::optional<std::vector<Piece>> pieces(const Composed& what) const;

 private:
  using Key = std::tuple<int, bool, std::int64_t>;  // slice, decay, begin

  std::vector<Piece> starting_at(const Composed& what) const;
  bool has_decay(const Range& places, int slice) const;

  const ScanDemand& demand_;
  Rank rank_;
  std::map<Key, std::vector<Piece>> held_;
};

}  // namespace ringweave::schedule
