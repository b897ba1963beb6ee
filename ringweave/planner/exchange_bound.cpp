#include "ringweave/planner/exchange_bound.h"

#include <algorithm>

#include "ringweave/planner/cost/balance.h"
#include "ringweave/planner/demand_bytes.h"
#include "ringweave/topology/lower_bound.h"

namespace ringweave::planner {
namespace {

/// Ranks up to which lower bounds are found by maximum flows; above, the cuts
/// around ranks and nodes have to do.
constexpr int kMaxFlowRanks = 64;

}  // namespace

double exchange_bound(const Machine& machine,
                      const schedule::AttentionDemand& demand,
                      schedule::Pass pass, double unit_bytes) {
  if (machine.ranks() == 1) return 0;
  double seconds = 0;
  if (machine.fabric && demand.mask().is_plain()) {
    // The rank of the last token needs all keys, under a causal mask too, and
    // every other rank has at least a shortest shard. All ranks are alike.
    const auto shard =
        static_cast<double>(shortest_shard(demand.kv_layout())) * unit_bytes;
    seconds = topology::closed_form_bound(*machine.fabric, shard).value_or(0);
    // Nothing is gained by looking closer, which takes its time.
    if (!machine.topology || has_even_shards(demand.kv_layout())) {
      return seconds;
    }
  }
  if (!machine.topology) return seconds;
  const auto bytes = demand_bytes(demand, unit_bytes);
  const auto bound = machine.ranks() <= kMaxFlowRanks ? topology::lower_bound
                                                      : topology::ingress_bound;
  return std::max(
      seconds,
      pass == schedule::Pass::forward
          ? bound(*machine.topology, bytes).seconds
          : bound(reversed_topology(*machine.topology), bytes).seconds);
}

}  // namespace ringweave::planner
