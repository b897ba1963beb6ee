#include "ringweave/topology/hop_routes.h"

#include <algorithm>
#include <utility>

namespace ringweave::topology {

std::vector<Route> hop_routes(const Topology& topology) {
  const int ranks = topology.ranks();
  std::vector<Route> all;
  for (Rank from = 0; from < ranks; ++from) {
    std::vector<std::vector<int>> links = topology.routes(from);
    for (Rank to = 0; to < ranks; ++to) {
      const auto passes_rank = [&](int link) {
        const int vertex = topology.links()[link].to;
        return vertex < ranks && vertex != to;
      };
      if (links[to].empty() ||
          std::any_of(links[to].begin(), links[to].end(), passes_rank)) {
        continue;
      }
      all.push_back({from, to, std::move(links[to])});
    }
  }
  const auto key = [&](const Route& route) {
    return std::pair{route.links.size() > 1,
                     (route.to - route.from + ranks) % ranks};
  };
  std::stable_sort(all.begin(), all.end(), [&](const Route& a, const Route& b) {
    return key(a) < key(b);
  });
  return all;
}

int room(const Route& route, std::span<const int> links) {
  int least = links[route.links[0]];
  for (const int link : route.links) least = std::min(least, links[link]);
  return least;
}

std::vector<int> spread(std::span<const Route> routes, std::vector<int> links) {
  std::vector<int> given(routes.size(), 0);
  for (bool more = true; more;) {
    more = false;
    for (std::size_t i = 0; i < routes.size(); ++i) {
      const int most = room(routes[i], links);
      if (most == 0) continue;
      const int units = routes[i].links.size() == 1 ? most : 1;
      for (const int link : routes[i].links) links[link] -= units;
      given[i] += units;
      more = true;
    }
  }
  return given;
}

}  // namespace ringweave::topology
