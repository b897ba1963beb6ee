// Predicts how long a linear layer's exchange of states takes, by formula.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ringweave/planner/cost/device_table.h"
#include "ringweave/planner/cost/loads.h"
#include "ringweave/planner/cost/model_shape.h"
#include "ringweave/schedule/exchange/state_exchange.h"

namespace ringweave::planner {

/// What a linear layer's exchange works with.
struct LinearCase {
  ModelShape shape;
  std::int64_t tokens = 0;  ///< of the longest shard
  int segments = 1;         ///< the most of a rank (layout.h, Segment)
  int places = 1;           ///< segments of all ranks
  bool causal = true;       ///< false: all segments get the sum of all
  double message_overhead_seconds = 0;

  /// Of one segment in bytes: its update, or a state; its decay, as far as that
  /// travels; both; and both of all of a rank's.
  double state_bytes() const;
  double decay_bytes() const;
  double summary_bytes() const { return state_bytes() + decay_bytes(); }
  double rank_bytes() const { return segments * summary_bytes(); }
};

/// Seconds of computing the three stages of a pass on a rank of so many tokens:
/// the summary, which the exchange waits for; the output within chunks, which
/// can hide it; and the correction by the state that it brings.
struct LinearStages {
  double summary = 0;
  double within = 0;
  double correction = 0;
  double all() const { return summary + within + correction; }
};

LinearStages linear_stages(const LinearCase& linear,
                           const DeviceTable& device_table, bool backward);

struct ExchangeCost {
  std::string name;  ///< "chain", "all_gather:direct:1", …
  PassCost forward;
  PassCost backward;
  double buffer_bytes = 0;   ///< of a rank, at the peak
  std::string why_not = {};  ///< not empty: impossible, and nothing above holds
};

/// Of `exchanges` that have a formula, which are those of schedule/exchange/.
/// As they are run: every segment's summary travels, also where documents start
/// so that nobody needs it.
///
/// A pass is: summaries, then the output within chunks while states travel,
/// then the correction by the incoming state. Only the chain's first hop hides.
/// Without causality there is nothing within chunks, and exchanges that compose
/// send their last state to all ranks.
std::vector<ExchangeCost> exchange_costs(
    const LinearCase& linear,
    const std::vector<schedule::StateExchangePtr>& exchanges,
    const Loads& loads, const DeviceTable& device_table);

/// The least time of a pass: some rank has to receive a state, and each to
/// compute its share. `in_bytes_per_second`: of the best connected rank;
/// infinite if no rank needs a state.
double linear_bound(const LinearCase& linear, const DeviceTable& device_table,
                    double in_bytes_per_second, bool backward);

}  // namespace ringweave::planner
