// A demand's answers, remembered: generators ask of the same part and rank once
// per strand and more, and there may be a thousand strands.
#pragma once

#include <cstdint>
#include <vector>

#include "ringweave/schedule/demand.h"

namespace ringweave::schedule {

class NeedTable {
 public:
  /// `demand` must outlive this. The table takes two bits for every part and
  /// rank: at a thousand ranks it fits a processor's cache. It remembers
  /// nothing if strands are so few that it would be larger than the schedule.
  NeedTable(const Demand& demand, int strands);

  bool remembers() const { return !answers_.empty(); }
  bool needs(Rank rank, const BlockId& block);
  /// All ranks but the owner that need some strand of the part, and perhaps
  /// others. Wants remembers().
  const std::vector<Rank>& users(Rank owner, int part);

 private:
  Strands strands_needed(Rank rank, Rank owner, int part);

  const Demand& demand_;
  int ranks_;
  int strands_;
  std::vector<std::size_t> first_;        // of each owner, number of its part 0
  std::vector<std::uint8_t> answers_;     // by part, then rank, four to a byte
  std::vector<std::vector<Rank>> users_;  // by part; empty: not listed yet
};

}  // namespace ringweave::schedule
