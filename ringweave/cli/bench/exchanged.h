// What benchmarks of exchanges let travel: one pass of a layer, without its
// computations, or with their times by a device table.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ringweave/base/range.h"
#include "ringweave/planner/cost/device_table.h"
#include "ringweave/planner/cost/model_shape.h"
#include "ringweave/planner/cost/workload.h"
#include "ringweave/schedule/exchange/state_exchange.h"
#include "ringweave/schedule/layout/layout.h"
#include "ringweave/schedule/mask/mask.h"
#include "ringweave/schedule/program/program.h"
#include "ringweave/schedule/strategy/strategy.h"
#include "ringweave/topology/topology.h"

namespace ringweave::cli {

/// Immutable, shared by the local ranks.
class Exchanged {
 public:
  virtual ~Exchanged() = default;

  /// One rank's program, and the units that it keeps for another pass.
  struct Part {
    schedule::Program program;
    std::int64_t kept_size = 0;
    std::vector<double> compute_seconds = {};  ///< by step; empty: none
    double before_seconds = 0;  ///< of computing before the first step
    double after_seconds = 0;   ///< and after the last one
  };

  virtual Part part(Rank rank) const = 0;
  virtual schedule::Schedule whole() const = 0;
  /// Of the schedule, to simulate it while this object is there.
  virtual planner::Workload workload() const = 0;
  /// Seconds of computing before and after the schedule, of the rank that
  /// computes longest.
  virtual double alone_seconds() const { return 0; }
  /// Seconds of the transfers that no schedule beats.
  virtual double bound(const topology::Topology& topology) const = 0;
  /// Seconds by the cost model; nullopt: it has no formula.
  virtual std::optional<double> cost(
      const topology::Topology& topology) const = 0;

  schedule::UnitBytes unit_bytes() const { return workload().unit_bytes; }
};

/// What a token takes: keys and values, or their gradients, of 64 fp32 each.
/// Schedules cut shards at tokens.
inline constexpr std::int64_t kTokenBytes = 512;
/// What a row of a state takes: 64 fp32.
inline constexpr std::int64_t kStateRowBytes = 256;

/// By it computing takes no time.
planner::DeviceTable no_compute();

/// Keys and values of a softmax layer, `shard_bytes` of each rank, which all
/// others need. A multiple of kTokenBytes.
std::unique_ptr<const Exchanged> exchanged_keys(
    const schedule::Strategy& strategy, int ranks, schedule::Pass pass,
    std::int64_t shard_bytes);

/// Keys and values of softmax attention, and the times of its tiles by
/// `device_table`. Throws as schedule::compile() for what can't be honoured.
std::unique_ptr<const Exchanged> exchanged_attention(
    const schedule::Strategy& strategy, const schedule::Layout& layout,
    const schedule::Mask& mask, schedule::Pass pass,
    const planner::ModelShape& shape, const planner::DeviceTable& device_table);

/// States of a linear layer under a causal or a full mask, with one segment per
/// rank and without decays, `state_bytes` each. A multiple of kStateRowBytes.
std::unique_ptr<const Exchanged> exchanged_states(
    schedule::StateExchangePtr exchange, int ranks, bool causal,
    schedule::Pass pass, std::int64_t state_bytes);

/// States of linear attention, and the times of its three stages by
/// `device_table` (linear_cost.h). What is computed within chunks is spread
/// over the steps that post messages, as linear attention does it. `layout` has
/// segments.
std::unique_ptr<const Exchanged> exchanged_linear(
    schedule::StateExchangePtr exchange, const schedule::Layout& layout,
    bool causal, schedule::Pass pass, const planner::ModelShape& shape,
    const planner::DeviceTable& device_table);

}  // namespace ringweave::cli
