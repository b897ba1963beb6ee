// Simulates a schedule on a topology: how long it takes, and what waits for
// what.
//
//   const schedule::Schedule schedule = schedule::whole(strategy, demand,
//   pass); const Timeline timeline = simulate(schedule, topology, workload);
//
// planner/cost/workload.h states the model. SimGrid shares the links; what
// ranks do when is decided here.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "ringweave/planner/cost/workload.h"
#include "ringweave/schedule/schedule.h"
#include "ringweave/sim/timeline.h"
#include "ringweave/topology/topology.h"

namespace ringweave::sim {

/// A link between two vertices that has `factor` times its rate. Links that
/// share one capacity are slowed together.
struct SlowLink {
  int from = 0;
  int to = 0;
  double factor = 1;
};

/// A link between two vertices that carries nothing from `seconds` on, nor do
/// those that share its capacity. Messages under way on it never end.
struct FailingLink {
  int from = 0;
  int to = 0;
  double seconds = 0;
};

struct SimulationOptions {
  /// A tile takes 1 - jitter … 1 + jitter times its seconds, uniformly
  /// distributed; 0 <= jitter < 1.
  double jitter = 0;
  std::uint64_t seed = 0;
  std::map<Rank, double> stragglers = {};  ///< factors of their tiles' seconds
  std::vector<SlowLink> slow_links = {};
  std::vector<FailingLink> failing_links = {};
  bool link_rates = false;  ///< fills Timeline::rates too
  /// Called often while the simulation runs; what it throws ends it. May be
  /// empty.
  std::function<void()> poll = {};
};

/// Simulates one pass. `schedule` is whole: all ranks' parts. The same input
/// gives the same result up to rounding, wherever it is called. Ends of
/// messages within 1e-12 seconds count as one.
///
/// A pass that can't end, since a link fails or the schedule waits in a circle,
/// gives a timeline that says so, with Timeline::stuck.
///
/// SimGrid has one engine per process: calls from several threads take turns.
/// Nothing else in the process may use SimGrid.
///
/// Throws InvalidArgument if ranks differ from the topology's, a transfer has
/// no route, a payload has no unit bytes, or an option makes no sense.
Timeline simulate(const schedule::Schedule& schedule,
                  const topology::Topology& topology,
                  const planner::Workload& workload,
                  const SimulationOptions& options = {});

}  // namespace ringweave::sim
