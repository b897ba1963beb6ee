// What a pass has to bring to whom, in bytes: the input of
// topology::lower_bound.
#pragma once

#include "ringweave/schedule/demand.h"
#include "ringweave/topology/lower_bound.h"

namespace ringweave::planner {

/// Bytes of each owner's keys that each rank needs, at [to][from]: exact to the
/// token, since blocks may be cut as small. `unit_bytes` is what a token
/// weighs. Forward: of keys and values. Backward: of gradients, with
/// reversed_topology().
topology::DemandBytes demand_bytes(const schedule::AttentionDemand& demand,
                                   double unit_bytes);

/// The topology with its links turned round. In backward every rank that has
/// used a block owes its owner a gradient. Sums may be formed on the way, so
/// what must cross a cut is one gradient, not one per contributor: on the
/// reversed graph the same as bringing the block to those that need it. Keys
/// and values are not counted, since a schedule may have kept them.
topology::Topology reversed_topology(const topology::Topology& topology);

/// Of the transfers of one pass, all schedules that keep queries in place:
/// topology::lower_bound() of keys and values, or in backward of their
/// gradients. `unit_bytes`: of one token's.
topology::LowerBound transfer_bound(const topology::Topology& topology,
                                    const schedule::AttentionDemand& demand,
                                    schedule::Pass pass, double unit_bytes);

}  // namespace ringweave::planner
