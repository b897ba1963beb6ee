// What one pass of a linear layer's exchange has to bring, and to which ranks.
#pragma once

#include <compare>
#include <cstdint>
#include <vector>

#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/schedule.h"

namespace ringweave::schedule {

/// Numbers of one segment's summary: what it adds to the state, rows × width,
/// and what it leaves of the state before it.
struct SummaryShape {
  std::int64_t rows = 1;    ///< batch · heads · key_dim
  std::int64_t width = 1;   ///< value_dim
  std::int64_t decays = 0;  ///< a divisor of rows; 0: all ranks know the decay
  friend auto operator<=>(const SummaryShape&, const SummaryShape&) = default;
};

/// The rows of a strand. Those of the first strands are one more if not all can
/// be equal: so strands of one size follow one another.
Range strand_rows(std::int64_t rows, int strand, int strands);

struct StateDemand {
  /// Which rank holds it, and its index among that rank's segments.
  struct Segment {
    Rank rank = 0;
    int part = 0;
    friend bool operator==(const Segment&, const Segment&) = default;
  };

  int ranks = 1;
  /// Of all ranks, in the order of the sequence.
  std::vector<Segment> segments;
  /// Forward a segment needs the state after those before it, backward the
  /// gradient after those behind it.
  Pass pass = Pass::forward;
  bool causal = true;           ///< false: all segments need the sum of all
  bool end_everywhere = false;  ///< all ranks need the state after all segments
  SummaryShape summary = {};
};

/// Which rank needs which summary. An owner with m segments has the parts
/// 0 … m - 1, their decays, and m … 2m - 1, their updates: what a rank needs of
/// an owner is then one message, mostly. In forward every rank with segments
/// needs every decay, as backward uses them too, and sends none. Updates are
/// needed by ranks with later segments, in backward with earlier ones.
class SummaryDemand final : public Demand {
 public:
  explicit SummaryDemand(const StateDemand& states);

  int ranks() const override { return static_cast<int>(places_.size()); }
  int parts(Rank owner) const override {
    return 2 * static_cast<int>(places_[owner].size());
  }
  std::int64_t size(const BlockId& block, int strands) const override;
  bool needs(Rank rank, const BlockId& block, int strands) const override;
  /// Whether `rank` needs the part, all strands of it.
  bool needs(Rank rank, Rank owner, int part) const;

  /// Numbers of decay that travel with an update.
  std::int64_t decays() const { return shape_.decays; }

  int decay_part(const StateDemand::Segment& segment) const {
    return segment.part;
  }
  int update_part(const StateDemand::Segment& segment) const {
    return parts(segment.rank) / 2 + segment.part;
  }

 private:
  enum class Readers {
    later,    ///< ranks with a segment later in the sequence
    earlier,  ///< ranks with a segment earlier in the sequence
    holders,  ///< all ranks with segments
    all       ///< all ranks
  };

  SummaryShape shape_;
  Readers readers_;
  std::vector<std::vector<int>> places_;  // [rank]: of its segments, in order
};

}  // namespace ringweave::schedule
