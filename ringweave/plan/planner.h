// Predicts every strategy and transport for a model on a topology, and picks.
//
//   const Planned planned = make_plan(
//       {.topology = "dgx-h100:nodes=2", .shape = shape, .tokens = 1 << 20});
//   const Strategy& best = planned.softmax.chosen->strategy;
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ringweave/plan/cost.h"
#include "ringweave/plan/device.h"
#include "ringweave/plan/layout.h"
#include "ringweave/plan/machine.h"
#include "ringweave/plan/mask.h"
#include "ringweave/plan/model_shape.h"
#include "ringweave/plan/strategy.h"

namespace ringweave::plan {

struct PlanRequest {
  Machine machine;
  ModelShape shape;
  Layout layout = Layout::zigzag(1, 1);
  Mask mask = Mask::causal();
  Device device;
  std::optional<double> memory_limit_bytes = {};  ///< of a rank
  double message_overhead_seconds = 0;
  /// Strategies made for this topology, to be compared with the others.
  std::vector<Strategy> extra = {};
};

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
  int chosen = -1;  ///< index; -1: none fits

  double bound() const { return forward_bound + backward_bound; }
};

struct Planned {
  LayerPlan softmax;
  LayerPlan linear;
  /// Attention of all layers, forward and backward, by the chosen ones.
  double step_seconds = 0;
};

/// Throws InvalidArgument if layout and machine have different ranks, for a
/// layout that linear layers can't use, and for symbolic fabrics under masks
/// and layouts that give ranks unequal work; NoSolution if nothing executable
/// fits in memory.
Planned make_plan(const PlanRequest& request);

}  // namespace ringweave::plan
