// The candidates for one kind of layers, and the choice among them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ringweave/plan/cost.h"
#include "ringweave/plan/strategy.h"

namespace ringweave::plan {

enum class Verdict { chosen, slower, too_large, not_executable, impossible };
const char* name(Verdict);

/// One strategy or transport. Times are of one layer.
struct Candidate {
  std::string name;
  std::optional<Strategy> strategy = {};  ///< of executable softmax strategies
  Verdict verdict = Verdict::slower;
  std::string reason = {};  ///< why it was not chosen, or what it is
  PassCost forward = {};
  PassCost backward = {};
  double memory_bytes = 0;  ///< of a rank at its peak (docs/algorithms.md)
  bool by_formula = false;  ///< and not by the recurrence
  double seconds() const { return forward.seconds + backward.seconds; }
};

/// The candidates for one kind of layers, fastest first, then the impossible.
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

/// Sorts the candidates, takes the fastest that is executable and fits in
/// `limit` bytes of a rank, and gives the others a verdict and a reason. Does
/// nothing if there are no layers. Throws NoSolution if none fits; `what` names
/// the candidates in it.
void choose(LayerPlan& plan, std::optional<double> limit, const char* what);

}  // namespace ringweave::plan
