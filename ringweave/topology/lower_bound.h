// How fast blocks can travel at best: a time that no schedule beats.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ringweave/base/range.h"
#include "ringweave/topology/topology.h"

namespace ringweave::topology {

/// Bytes of `from`'s data that `to` needs, at [to][from]; the diagonal is
/// ignored. The data that two ranks need of one owner is taken to be the same
/// as far as it goes, so it may be sent once and passed on.
using DemandBytes = std::vector<std::vector<double>>;

/// A time that is proven from below, with its proof.
struct LowerBound {
  double seconds = 0;
  /// The cut that proves it: `bytes` must leave the vertices of `inside`, and
  /// the links that do so carry `bytes_per_second` together. `receiver` is the
  /// rank outside that needs them; -1 if nothing travels.
  std::vector<int> inside = {};
  Rank receiver = -1;
  double bytes = 0;
  double bytes_per_second = 0;
};

/// For every rank the least time in which the maximum flow from all owners
/// brings it what it needs (algorithm: docs/algorithms.md); the largest of
/// them. Exact for full demand of equal shards where fractional schedules may
/// pass data on in ranks; otherwise a lower bound. Latency counts as 0, and
/// each of the links that share a capacity counts with all of it. Throws
/// InvalidArgument unless `demand` is ranks × ranks, finite and >= 0.
LowerBound lower_bound(const Topology& topology, const DemandBytes& demand);

/// What the cuts around each rank and around each node prove: quick at any
/// size, and never above lower_bound(). Throws as that does.
LowerBound ingress_bound(const Topology& topology, const DemandBytes& demand);

/// lower_bound() for regular fabrics and every rank needing `shard_bytes` of
/// every other, by closed form at any size. nullopt where none is known.
std::optional<double> closed_form_bound(const Fabric& fabric,
                                        double shard_bytes);

}  // namespace ringweave::topology
