// The candidates for one kind of layers, and the choice among them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ringweave/planner/cost/cost.h"
#include "ringweave/schedule/strategy/strategy.h"

namespace ringweave::planner {

/// `equal`: within kEqual of the chosen one's time.
enum class Verdict {
  chosen,
  equal,
  slower,
  too_large,
  not_executable,
  impossible
};
const char* name(Verdict);

/// One strategy or exchange. Times are of one layer.
struct Candidate {
  std::string name;
  std::optional<schedule::Strategy> strategy =
      {};  ///< of executable softmax strategies
  Verdict verdict = Verdict::slower;
  std::string reason = {};  ///< why it was not chosen, or what it is
  PassCost forward = {};
  PassCost backward = {};
  double memory_bytes = 0;  ///< of a rank at its peak (docs/algorithms.md)
  bool by_formula = false;  ///< and not event by event
  /// The bounds hold for it: queries stay, keys and values travel.
  bool is_bounded = true;
  double seconds() const { return forward.seconds + backward.seconds; }
  /// Of the busiest link (PassCost::link_seconds).
  double link_seconds() const {
    return forward.link_seconds + backward.link_seconds;
  }
};

/// The candidates for one kind of layers, fastest first; the chosen one stands
/// before those of equal time, and impossible ones stand last.
struct LayerPlan {
  std::int64_t layers = 0;
  double forward_bound = 0;  ///< seconds that nothing beats
  double backward_bound = 0;
  double exchange_bound = 0;  ///< of forward's transfers alone
  double own_bytes = 0;       ///< of a rank's own data, in every memory_bytes
  std::vector<Candidate> candidates = {};
  int chosen = -1;  ///< index; -1: there are no layers

  double bound() const { return forward_bound + backward_bound; }
};

/// Times whose ratio is less count as equal. Predictions are no better than
/// that, and a strategy whose transfers only just hide has no reserve.
inline constexpr double kEqual = 1.01;

/// Sorts the candidates and gives each a verdict and a reason. Only executable
/// candidates that fit in `limit` bytes of a rank can be chosen. Of those whose
/// time equals the fastest one's, the one is chosen that uses its busiest link
/// least long, then the one with the least memory. Does nothing if there are no
/// layers.
/// Throws NoSolution if none fits; `what` names the candidates in it.
void choose(LayerPlan& plan, std::optional<double> limit, const char* what);

}  // namespace ringweave::planner
