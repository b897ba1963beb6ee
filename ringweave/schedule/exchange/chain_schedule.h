// The ordered scan: a state passed along the segments, one after the other.
#pragma once

#include <optional>
#include <vector>

#include "ringweave/schedule/exchange/scan_demand.h"
#include "ringweave/schedule/schedule.h"

namespace ringweave::schedule {

/// Who needs which state. The rank of the next segment needs the state after a
/// segment, unless it made that state itself. All ranks need the last state if
/// the demand has it end everywhere, or without causality. Rows s of the state
/// after a segment, of `strands` such pieces, are the block (rank, s, part).
class ChainDemand final : public ScanDemand {
 public:
  /// Throws as ScanDemand().
  ChainDemand(StateDemand states, int strands);

  int strands() const override { return slices(); }
  int parts(Rank owner) const override {
    return static_cast<int>(places_of_[owner].size());
  }
  std::optional<Composed> content(const BlockId& block) const override;
  bool needs(Rank rank, const BlockId& block, int strands) const override;

  /// Whether the state after the last segment is sent to all ranks.
  bool broadcasts() const;

 private:
  std::optional<int> place(const BlockId& block) const;

  std::vector<std::vector<int>> places_of_;  // [rank][part]; -1: none
};

/// One rank's part, or the whole chain; pass forward, payload summary. With
/// segments j = 0, 1, … in the order of the pass: strand s of the state after
/// segment j is sent in step j + s and waited for in the next one, with action
/// compose, from kOwn. Between segments of one rank nothing is sent: that rank
/// composes on its own. After the last segment it goes to all ranks that need
/// it, with action copy. All that is received is retained.
///
/// So with n_s segments a state passes n_s - 1 serial hops, and K strands are
/// behind each other by one step: 1 + (n_s - 2) / K times of a state's hop. Not
/// all strands of the first state are sent at once, although it is there: they
/// would share one link, and none would arrive before the others.
/// Source: LASP (one strand), ZeCO (K strands).
Schedule chain_schedule(const ChainDemand& demand, std::optional<Rank> rank);

}  // namespace ringweave::schedule
