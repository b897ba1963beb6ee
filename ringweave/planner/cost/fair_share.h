// Transfers that share links max-min fairly.
//
// Max-min fair: no transfer can get more without taking from one that has no
// more than it. When a transfer starts or ends, rates change only of those that
// share links with it, directly or through others.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "ringweave/topology/topology.h"

namespace ringweave::planner {

/// The routes of a topology's messages, and what they use. Links that share one
/// capacity (topology::Link::shared) are one resource.
class Network {
 public:
  /// Keeps the topology by reference. Throws InvalidArgument naming two ranks
  /// that no route joins.
  explicit Network(const topology::Topology& topology);

  const topology::Topology& topology() const { return topology_; }
  int resources() const { return static_cast<int>(capacity_.size()); }
  double capacity(int resource) const { return capacity_[resource]; }
  /// By resource, in bytes per second.
  std::span<const double> capacities() const { return capacity_; }
  /// The resources of a route, and its links' latencies together.
  std::span<const int> route(Rank from, Rank to) const {
    return routes_[index(from, to)];
  }
  /// The links of a route.
  std::span<const int> links(Rank from, Rank to) const {
    return links_[index(from, to)];
  }
  double latency(Rank from, Rank to) const { return latency_[index(from, to)]; }

 private:
  std::size_t index(Rank from, Rank to) const {
    return static_cast<std::size_t>(from) * topology_.ranks() + to;
  }

  const topology::Topology& topology_;
  std::vector<double> capacity_;
  std::vector<std::vector<int>> links_;
  std::vector<std::vector<int>> routes_;
  std::vector<double> latency_;
};

/// The rates of transfers under way, which the caller numbers.
class FairShare {
 public:
  /// `capacity` holds the bytes per second of each resource; it must outlive
  /// this.
  FairShare(std::span<const double> capacity, int transfers);

  /// `route` holds the resources that it uses, and must stay until it ends.
  /// `weight` counts as so many transfers of the same route.
  void start(int transfer, std::span<const int> route, double weight);
  void end(int transfer);
  double rate(int transfer) const { return active_[transfer].rate; }
  /// Before the next update(): an equal share of each link of its own.
  double first_guess(int transfer) const;

  bool stale() const { return !dirty_.empty(); }
  /// Sets all rates right. Returns the transfers whose rates have changed;
  /// valid until the next call.
  std::span<const int> update();
  /// Of a transfer to a link, by all updates: what they have cost.
  std::size_t visits() const { return visits_; }

 private:
  struct Active {
    std::span<const int> route;
    double weight = 0;
    double rate = 0;
    bool running = false;
    unsigned seen = 0;
    bool fixed = false;
  };
  struct Resource {
    std::vector<int> transfers;  // ended ones are dropped when next visited
    double weight = 0;
    unsigned seen = 0;
    double left = 0;
    double waiting = 0;  // weight of the transfers that are not fixed yet
  };

  void collect();
  void fix(int transfer, double share);

  std::span<const double> capacity_;
  std::vector<Active> active_;
  std::vector<Resource> resources_;
  std::vector<int> dirty_;
  std::vector<int> touched_;   // resources of the part being updated
  std::vector<int> affected_;  // its transfers
  std::vector<int> changed_;
  unsigned round_ = 0;
  std::size_t visits_ = 0;
};

}  // namespace ringweave::planner
