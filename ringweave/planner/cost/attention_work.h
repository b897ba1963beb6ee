// The work of one layer's softmax attention as the cost model and the simulator
// want it: bytes of its payloads, seconds of its tiles, traffic of a strategy.
#pragma once

#include "ringweave/planner/cost/device_table.h"
#include "ringweave/planner/cost/model_shape.h"
#include "ringweave/planner/cost/traffic.h"
#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/strategy/strategy.h"

namespace ringweave::planner {

/// Visible (query, key) pairs of `rank` with all of `owner`'s keys.
double pair_area(const schedule::AttentionDemand& demand, Rank rank,
                 Rank owner);

/// A step costs what `device_table` says of its visible pairs × heads × batch.
/// A strand gets its share of its run's pairs, exact to rounding for every
/// layout. Under windows and documents each strand's pairs are counted.
/// `demand` must outlive the result.
Workload attention_workload(const schedule::AttentionDemand& demand,
                            int strands, const ModelShape& shape,
                            const DeviceTable& device_table,
                            schedule::Pass pass,
                            double message_overhead_seconds);

/// What a strategy asks of ranks and links; throws as strand_count().
Traffic attention_traffic(const schedule::Strategy& strategy,
                          const schedule::AttentionDemand& demand,
                          const ModelShape& shape,
                          const DeviceTable& device_table, schedule::Pass pass,
                          double message_overhead_seconds);

}  // namespace ringweave::planner
