// How long messages take on a topology, for local ranks that pretend to be one.
//
// Messages under way share each link max-min fairly; those of one ordered pair
// follow each other. The clock is the model's own: it stands still while ranks
// compute and jumps to the next arrival when all of them wait, so a result
// depends on no scheduler and costs no real time.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "ringweave/topology/topology.h"

namespace ringweave::comm {

/// Not thread-safe.
class LinkModel {
 public:
  /// Throws InvalidArgument if a route between two ranks is missing.
  explicit LinkModel(const topology::Topology& topology);

  /// Since the model was made.
  double seconds() const { return now_; }

  /// A message sets out now, behind those of its pair; its number.
  int start(Rank from, Rank to, std::int64_t bytes);
  /// Whether its last byte is there, latency included.
  bool arrived(int message) const;
  /// Lets time pass until something happens to a message; false if none is
  /// under way.
  bool advance();

 private:
  struct Flow {
    std::pair<Rank, Rank> pair;
    double bytes_left = 0;
    double rate = 0;      ///< at present; 0: waits behind one of its pair
    double arrival = -1;  ///< once its last byte was sent
  };

  /// Links with a common capacity, by their place in capacity_.
  using Resources = std::vector<int>;
  struct Route {
    Resources resources;
    double latency_seconds = 0;
  };

  void share();
  const Route& route(const Flow& flow) const {
    return routes_[flow.pair.first * ranks_ + flow.pair.second];
  }

  int ranks_ = 0;
  double now_ = 0;
  std::vector<double> capacity_;  ///< bytes per second
  std::vector<Route> routes_;     ///< [from * ranks + to]
  std::vector<Flow> flows_;       ///< by message number
  std::map<std::pair<Rank, Rank>, std::deque<int>> sending_;
  std::vector<int> landing_;  ///< sent, not yet arrived
};

}  // namespace ringweave::comm
