// The hops that schedules may use: between ranks, along the topology's routes.
#pragma once

#include <span>
#include <vector>

#include "ringweave/base/range.h"
#include "ringweave/topology/topology.h"

namespace ringweave::topology {

/// The route between two ranks, if no other rank lies between.
struct Route {
  Rank from = 0;
  Rank to = 0;
  std::vector<int> links;
};

/// All of a topology, direct links first, then by distance of the ranks'
/// numbers.
std::vector<Route> hop_routes(const Topology& topology);

/// The least of what a route's links have. `links`: what each has.
int room(const Route& route, std::span<const int> links);

/// Hands out what links have to routes, by route: all of a direct link first,
/// then one by one in turn, which spreads a switch over partners.
std::vector<int> spread(std::span<const Route> routes, std::vector<int> links);

}  // namespace ringweave::topology
