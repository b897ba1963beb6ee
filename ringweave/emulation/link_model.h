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
#include <vector>

#include "ringweave/planner/cost/fair_share.h"
#include "ringweave/topology/topology.h"

namespace ringweave::emulation {

/// Not thread-safe.
class LinkModel {
 public:
  /// Throws InvalidArgument if a route between two ranks is missing.
  explicit LinkModel(topology::Topology topology);
  LinkModel(const LinkModel&) = delete;
  LinkModel& operator=(const LinkModel&) = delete;

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
  struct Message {
    double bytes_left = 0;
    double arrival = -1;  ///< once its last byte was sent
  };
  using Pair = int;  ///< from * ranks + to

  Rank from(Pair pair) const { return pair / topology_.ranks(); }
  Rank to(Pair pair) const { return pair % topology_.ranks(); }
  double end_of(Pair pair, int message) const {
    return now_ + messages_[message].bytes_left / share_.rate(pair);
  }

  topology::Topology topology_;
  planner::Network network_;  ///< of topology_
  planner::FairShare share_;  ///< of the pairs that send
  double now_ = 0;
  std::vector<Message> messages_;
  std::map<Pair, std::deque<int>> sending_;  ///< the first one is on its way
  std::vector<int> landing_;                 ///< sent, not yet arrived
};

}  // namespace ringweave::emulation
