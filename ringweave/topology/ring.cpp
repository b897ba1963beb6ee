#include "ringweave/topology/ring.h"

#include <utility>

#include "ringweave/base/error.h"

namespace ringweave::topology {

Ring::Ring(std::vector<Rank> order)
    : order_(std::move(order)), place_(order_.size(), -1) {
  require(!order_.empty(), "[ring] got no ranks; want at least 1");
  for (int i = 0; i < size(); ++i) {
    const Rank rank = order_[i];
    require(rank >= 0 && rank < size(),
            "[ring] got rank {} in an order of {} ranks; want 0 … {}", rank,
            size(), size() - 1);
    require(place_[rank] < 0, "[ring] got rank {} twice; want each rank once",
            rank);
    place_[rank] = i;
  }
}

Rank Ring::after(Rank rank, int hops) const {
  require(rank >= 0 && rank < size(), "[ring] got rank {}; want 0 … {}", rank,
          size() - 1);
  if (hops >= size() || hops <= -size()) hops %= size();  // divisions are slow
  int place = place_[rank] + hops;
  if (place < 0) place += size();
  if (place >= size()) place -= size();
  return order_[place];
}

}  // namespace ringweave::topology
