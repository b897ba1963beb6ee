// What a linear layer's exchange needs to know before it sees a tensor.
#pragma once

#include <cstdint>
#include <vector>

#include "ringweave/linear_attention/linear_attention.h"
#include "ringweave/linear_attention/segment.h"
#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/schedule.h"

namespace ringweave::linear_attention {

/// One rank's part. Immutable.
struct LinearPlan {
  struct Piece {
    Rank rank = 0;
    int part = 0;          ///< among the rank's segments, in position order
    SegmentTokens tokens;  ///< among the tokens of the rank that holds it
  };

  LinearSpec spec;
  Rank rank = 0;
  std::vector<Piece> segments = {};  ///< of all ranks, in position order
  std::vector<int> own = {};         ///< indices of this rank's segments

  /// Schedules whose parts all have a nominal size; bind() gives the real one.
  /// forward_all: every rank gets every summary, for the final state.
  schedule::Schedule forward = {}, forward_all = {}, backward = {};
  int strands = 1;

  int ranks() const { return spec.layout.ranks(); }
  bool causal() const { return spec.mask.is_causal(); }
};

/// Elements of one segment's summary.
struct SummarySize {
  std::int64_t decay = 0;  ///< 0 if all ranks know it anyway
  std::int64_t update = 0;
};

/// Which rank needs which summary, for transport all_gather. An owner with m
/// segments has the parts 0 … m - 1, their decays, and m … 2m - 1, their
/// updates: what a rank needs of an owner is then one message, mostly.
/// Every rank with tokens needs every decay (backward uses them too); updates
/// are needed by ranks with later segments, in backward with earlier ones.
class SummaryDemand final : public schedule::Demand {
 public:
  enum class Readers {
    later,    ///< ranks with a segment later in the sequence
    earlier,  ///< ranks with a segment earlier in the sequence
    holders,  ///< all ranks with segments
    all       ///< all ranks
  };

  SummaryDemand(const LinearPlan& plan, Readers readers, SummarySize size);

  int ranks() const override { return static_cast<int>(places_.size()); }
  int parts(Rank owner) const override {
    return 2 * static_cast<int>(places_[owner].size());
  }
  std::int64_t size(const schedule::BlockId& block, int strands) const override;
  bool needs(Rank rank, const schedule::BlockId& block,
             int strands) const override;
  /// Whether `rank` needs the part, all strands of it.
  bool needs(Rank rank, Rank owner, int part) const;

 private:
  std::vector<std::vector<int>> places_;  // [rank]: of its segments, in order
  Readers readers_;
  SummarySize size_;
};

/// `nominal` with the sizes of `demand`; parts of size 0 and their transfers
/// are dropped.
schedule::Schedule bind(const schedule::Schedule& nominal,
                        const schedule::Demand& demand, int strands);

/// Readers of the two passes; `all`: every rank wants the final state.
SummaryDemand::Readers forward_readers(const LinearPlan& plan, bool all);
SummaryDemand::Readers backward_readers(const LinearPlan& plan);

}  // namespace ringweave::linear_attention
