#include "ringweave/topology/ways.h"

#include <algorithm>
#include <utility>

namespace ringweave::topology {

std::vector<Way> ways(const Topology& topology) {
  const int ranks = topology.ranks();
  std::vector<Way> all;
  for (Rank from = 0; from < ranks; ++from) {
    std::vector<std::vector<int>> routes = topology.routes(from);
    for (Rank to = 0; to < ranks; ++to) {
      const auto passes_rank = [&](int link) {
        const int vertex = topology.links()[link].to;
        return vertex < ranks && vertex != to;
      };
      if (routes[to].empty() ||
          std::any_of(routes[to].begin(), routes[to].end(), passes_rank)) {
        continue;
      }
      all.push_back({from, to, std::move(routes[to])});
    }
  }
  const auto key = [&](const Way& way) {
    return std::pair{way.links.size() > 1, (way.to - way.from + ranks) % ranks};
  };
  std::stable_sort(all.begin(), all.end(),
                   [&](const Way& a, const Way& b) { return key(a) < key(b); });
  return all;
}

int room(const Way& way, std::span<const int> links) {
  int least = links[way.links[0]];
  for (const int link : way.links) least = std::min(least, links[link]);
  return least;
}

std::vector<int> spread(std::span<const Way> ways, std::vector<int> links) {
  std::vector<int> given(ways.size(), 0);
  for (bool more = true; more;) {
    more = false;
    for (std::size_t i = 0; i < ways.size(); ++i) {
      const int most = room(ways[i], links);
      if (most == 0) continue;
      const int units = ways[i].links.size() == 1 ? most : 1;
      for (const int link : ways[i].links) links[link] -= units;
      given[i] += units;
      more = true;
    }
  }
  return given;
}

}  // namespace ringweave::topology
