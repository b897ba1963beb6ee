// What `ringweave simulate` is given, and what comes of it: everything up to
// the simulation.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ringweave/cli/disturbances.h"
#include "ringweave/planner/cost/device_table.h"
#include "ringweave/planner/cost/model_shape.h"
#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/mask/mask.h"
#include "ringweave/schedule/schedule.h"
#include "ringweave/topology/topology.h"

namespace ringweave::cli {

/// As on the command line. What is absent or empty is the plan's, or else the
/// default.
struct SimulateOptions {
  std::string topology;
  std::string plan;                    ///< a file
  std::string strategy;                ///< or
  std::vector<std::string> schedules;  ///< files
  bool transfers_only = false;         ///< they need not compute attention
  std::optional<std::int64_t> seq_len;
  std::optional<std::int64_t> batch;
  std::optional<std::int64_t> heads;
  std::optional<std::int64_t> kv_heads;
  std::optional<std::int64_t> head_dim;
  std::string dtype;
  std::string layout;
  std::string mask;
  bool backward_only = false;
  bool forward_only = false;
  std::string device_table;
  std::optional<double> flops;
  bool no_compute = false;
  double message_overhead = 0;
  Disturbances disturbances;
  std::string save_prefix;
  std::string trace;
  bool json = false;
};

/// One layer's attention, without a plan.
struct AttentionDefaults {
  static constexpr std::int64_t kSeqLen = 65536;
  static constexpr std::int64_t kHeads = 32;
  static constexpr std::int64_t kHeadDim = 128;
  static constexpr const char* kLayout = "zigzag";
  static constexpr const char* kMask = "causal";
};

/// What is simulated.
struct SimulateInput {
  struct Pass {
    schedule::Schedule schedule;
    int strands = 1;
  };

  topology::Topology topology;
  std::string strategy;  ///< its name; empty: schedules of files
  planner::ModelShape shape;
  std::string layout;
  schedule::AttentionDemand demand;
  std::vector<Pass> passes;
  /// None: compute takes no time.
  std::optional<planner::DeviceTable> device_table;
  sim::SimulationOptions options;
};

/// Of a strategy or a plan, in the order in which they are simulated.
std::vector<schedule::Pass> chosen_passes(const SimulateOptions& options);

/// Throws InvalidArgument naming the first option that can't be used, or
/// contradicts the plan.
SimulateInput simulate_input(const SimulateOptions& options);

}  // namespace ringweave::cli
