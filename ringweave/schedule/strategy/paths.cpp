#include "ringweave/schedule/strategy/paths.h"

#include <utility>

#include "ringweave/base/error.h"

namespace ringweave::schedule {

// The row 0, 1, m-1, 2, m-2, …, m/2 and its translates mod m are m paths whose
// hops +1, -2, +3, … take every difference once, so that the translates use
// every link once. A translate by c ends at c + m/2, where the path of the next
// node starts.
std::vector<topology::Ring> path_rings(int nodes, int ranks_per_node) {
  const int m = ranks_per_node;
  require(nodes >= 2 && m >= 1,
          "[paths] got {} nodes of {} ranks; want at least 2 nodes of at least "
          "1",
          nodes, m);
  if (m % 2 != 0) {
    throw NoSolution(
        fmt::format("[paths] got {} nodes of {} ranks; want an even number of "
                    "ranks in a node",
                    nodes, m));
  }
  std::vector<topology::Ring> rings;
  for (int strand = 0; strand < m; ++strand) {
    std::vector<Rank> order;
    for (int node = 0; node < nodes; ++node) {
      for (int i = 0; i < m; ++i) {
        const int row = i % 2 == 1 ? (i + 1) / 2 : m - i / 2;
        order.push_back(node * m + (row + strand + node * m / 2) % m);
      }
    }
    rings.emplace_back(std::move(order));
  }
  return rings;
}

}  // namespace ringweave::schedule
