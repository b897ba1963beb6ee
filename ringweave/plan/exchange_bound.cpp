#include "ringweave/plan/exchange_bound.h"

#include "ringweave/plan/demand_bytes.h"
#include "ringweave/topology/lower_bound.h"

namespace ringweave::plan {
namespace {

/// Ranks up to which lower bounds are found by maximum flows.
constexpr int kMaxFlowRanks = 64;

}  // namespace

double exchange_bound(const Machine& machine, const AttentionDemand& demand,
                      Pass pass, double unit_bytes) {
  if (machine.ranks() == 1) return 0;
  if (machine.fabric && demand.mask().is_plain()) {
    // Some rank needs all keys, under a causal mask too; all ranks are alike.
    // Shards differ by a token at most: the shortest ones bound.
    const std::int64_t tokens = demand.kv_layout().tokens() / machine.ranks();
    if (const auto seconds = topology::closed_form_bound(
            *machine.fabric, static_cast<double>(tokens) * unit_bytes)) {
      return *seconds;
    }
  }
  if (!machine.topology || machine.ranks() > kMaxFlowRanks) return 0;
  const auto bytes = demand_bytes(demand, unit_bytes);
  return pass == Pass::forward
             ? topology::lower_bound(*machine.topology, bytes).seconds
             : topology::lower_bound(reversed_topology(*machine.topology),
                                     bytes)
                   .seconds;
}

}  // namespace ringweave::plan
