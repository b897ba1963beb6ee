// Predicts how long a pass takes, under the timing model of workload.h.
//
// Each rank runs on its own clock through its waits, posts and tiles; transfers
// share links max-min fairly. What is approximated (docs/algorithms.md, "Cost
// model"): messages between the same two ranks in the same step count as one,
// and where there are very many, rates are set right every so often instead of
// at every start and end.
#pragma once

#include <map>
#include <string>

#include "ringweave/planner/cost/fair_share.h"
#include "ringweave/planner/cost/traffic.h"

namespace ringweave::planner {

struct ClassBytes {
  double total = 0;    ///< over all links of the class
  double busiest = 0;  ///< over one of them
  friend bool operator==(const ClassBytes&, const ClassBytes&) = default;
};

/// By link class (topology::Link::link_class).
using LinkClassBytes = std::map<std::string, ClassBytes>;

struct PassCost {
  double seconds = 0;          ///< until the last rank is done
  double compute_seconds = 0;  ///< of the rank that computes longest
  LinkClassBytes bytes = {};
  /// How long the busiest link is in use at its full rate: the least that the
  /// transfers alone would take.
  double link_seconds = 0;
};

struct CostOptions {
  double message_overhead_seconds = 0;
  /// What setting rates right may cost, in visits of a transfer to a link. The
  /// budget b is the larger of `least_budget` and visits_per_hop · the sum of
  /// links over all transfers' routes. After v > b visits the rates are set
  /// next at time T · (v / b - 1), where T is the time in which the busiest
  /// link or rank could do all its work. So each T of predicted time costs b
  /// more visits at most.
  double least_budget = 3e6;
  double visits_per_hop = 6;
};

PassCost pass_cost(const Traffic& traffic, const Network& network,
                   const CostOptions& options = {});

LinkClassBytes link_class_bytes(const Traffic& traffic, const Network& network);

}  // namespace ringweave::planner
