// The ordered scan: a state passed along the segments, one after the other.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/schedule.h"

namespace ringweave::schedule {

/// The segments in the order of the sequence: which rank holds each, and its
/// index among that rank's segments.
struct ChainSpec {
  struct Segment {
    Rank rank = 0;
    int part = 0;
    friend bool operator==(const Segment&, const Segment&) = default;
  };

  int ranks = 1;
  std::vector<Segment> segments;
  std::int64_t size = 1;   ///< units of a state
  bool reverse = false;    ///< from the last segment to the first (backward)
  bool broadcast = false;  ///< send the final state to all other ranks
};

/// Who needs which state. The rank of the next segment needs the state after a
/// segment, unless it made that state itself. With `broadcast` every other rank
/// needs the last state. The state after a segment is the block (rank, 0,
/// part).
class ChainDemand final : public Demand {
 public:
  /// Throws InvalidArgument for ranks out of range, negative parts, a segment
  /// that is named twice, and size < 1.
  explicit ChainDemand(ChainSpec spec);

  int ranks() const override { return spec_.ranks; }
  int parts(Rank owner) const override { return parts_[owner]; }
  std::int64_t size(const BlockId& block, int strands) const override;
  bool needs(Rank rank, const BlockId& block, int strands) const override;

  const ChainSpec& spec() const { return spec_; }
  /// Index of a segment in the order of the chain (which `reverse` turns
  /// round); nullopt if there is none.
  std::optional<int> place(const BlockId& block) const;
  /// The segments in the order of the chain.
  const std::vector<ChainSpec::Segment>& order() const { return order_; }

 private:
  ChainSpec spec_;
  std::vector<ChainSpec::Segment> order_;
  std::vector<int> parts_;
  std::vector<std::vector<int>> places_;  // [rank][part]; -1: none
};

/// One rank's part, or the whole chain; pass forward, strand 0, payload
/// summary, as many steps as segments (at least 1).
///
/// With segments j = 0, 1, … in the order of the chain: the state after segment
/// j is sent in step j and waited for in step j + 1, with action compose, from
/// kOwn, into slot `part` of segment j + 1. Between segments of one rank
/// nothing is sent: that rank composes on its own. Broadcast: the state after
/// the last segment j is sent in step j with action copy into the slot whose
/// number is the number of segments.
///
/// So a rank must have composed the state after its segment j when its wait of
/// step j is over. (n_s - 1) serial hops, one state per hop.
Schedule chain_schedule(const ChainDemand& demand, std::optional<Rank> rank);

}  // namespace ringweave::schedule
