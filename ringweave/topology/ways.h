// The hops that schedules may use: between ranks, along the topology's routes.
#pragma once

#include <span>
#include <vector>

#include "ringweave/base/range.h"
#include "ringweave/topology/topology.h"

namespace ringweave::topology {

/// The route between two ranks, if no other rank lies between.
struct Way {
  Rank from = 0;
  Rank to = 0;
  std::vector<int> links;
};

/// All of a topology, direct links first, then by distance of the ranks'
/// numbers.
std::vector<Way> ways(const Topology& topology);

/// The least of what the links of a way have, [link].
int room(const Way& way, std::span<const int> links);

/// Hands out what links have, [link], to ways, [way]: all of a direct link,
/// then one by one in turn, which spreads a switch over partners.
std::vector<int> spread(std::span<const Way> ways, std::vector<int> links);

}  // namespace ringweave::topology
