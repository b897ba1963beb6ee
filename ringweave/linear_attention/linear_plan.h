// What a linear layer's exchange needs to know before it sees a tensor.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <utility>
#include <vector>

#include "ringweave/linear_attention/inputs.h"
#include "ringweave/linear_attention/linear_attention.h"
#include "ringweave/schedule/exchange/exchange_program.h"

namespace ringweave::linear_attention {

/// One rank's part. Immutable but for the programs, which are compiled when
/// they are first asked for.
struct LinearPlan {
  struct Piece {
    Rank rank = 0;
    int part = 0;          ///< among the rank's segments, in position order
    SegmentTokens tokens;  ///< among the tokens of the rank that holds it
  };

  LinearPlan(LinearSpec spec, Rank rank) : spec(std::move(spec)), rank(rank) {}

  LinearSpec spec;
  Rank rank;
  std::vector<Piece> segments = {};  ///< of all ranks, in position order
  std::vector<int> own = {};         ///< indices of this rank's segments
  comm::Facts facts = {};  ///< that the plans of all ranks have in common

  int ranks() const { return spec.layout.ranks(); }
  bool causal() const { return spec.mask.is_causal(); }

  /// Of one pass. `end_everywhere`: every rank gets the state after the last
  /// segment. For several threads.
  std::shared_ptr<const schedule::ExchangeProgram> program(
      schedule::Pass pass, bool end_everywhere,
      const schedule::SummaryShape& shape) const;

 private:
  using Key = std::tuple<schedule::Pass, bool, schedule::SummaryShape>;
  mutable std::mutex mutex_;
  mutable std::map<Key, std::shared_ptr<const schedule::ExchangeProgram>>
      programs_;
};

}  // namespace ringweave::linear_attention
