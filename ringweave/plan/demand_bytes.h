// What a pass has to bring to whom, in bytes: the input of
// topology::lower_bound.
#pragma once

#include "ringweave/plan/demand.h"
#include "ringweave/topology/lower_bound.h"

namespace ringweave::plan {

/// Forward: the keys and values that each rank needs of each owner, at
/// [to][from]; `unit_bytes` is what one unit of the demand weighs.
topology::DemandBytes demand_bytes(const Demand& demand, double unit_bytes);

/// The same transposed, for a bound on backward: each contributor owes the
/// owner its gradient. Sums may be formed on the way, so what must cross a cut
/// is one gradient and not one per contributor; on the graph with its links
/// reversed that is the forward problem, whence reversed_topology(). Keys and
/// values are not counted: a schedule may have kept them.
topology::Topology reversed_topology(const topology::Topology& topology);

}  // namespace ringweave::plan
