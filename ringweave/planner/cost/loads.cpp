#include "ringweave/planner/cost/loads.h"

#include <algorithm>
#include <map>

#include "ringweave/base/error.h"

namespace ringweave::planner {
namespace {

using topology::Fabric;
using topology::FabricKind;

/// One busiest link of a class stands for all of the class.
Load uniform(const std::vector<std::pair<const char*, ClassBytes>>& classes,
             const std::vector<double>& rates) {
  Load load;
  for (std::size_t i = 0; i < classes.size(); ++i) {
    load.bytes[classes[i].first] = classes[i].second;
    load.link_seconds.push_back(classes[i].second.busiest / rates[i]);
  }
  return load;
}

/// Hops along one dimension of a torus with `side` ranks, by the shorter way.
double hops(int distance, int side) {
  const int d = distance % side;
  return std::min(d, side - d);
}

/// Mean hops to all of a dimension's ranks, oneself included.
double mean_hops(int side) {
  double sum = 0;
  for (int d = 0; d < side; ++d) sum += hops(d, side);
  return sum / side;
}

/// Directed links of a rank in a dimension; a side of 2 has one cable.
double out_links(int side) { return side > 2 ? 2 : side - 1; }

std::vector<int> sides(const Fabric& fabric) {
  return fabric.kind == FabricKind::ring ? std::vector<int>{fabric.ranks}
                                         : fabric.dimensions;
}

double latency_of(const Fabric& fabric) {
  switch (fabric.kind) {
    case FabricKind::two_level:
      return std::max(fabric.nodes > 1 ? fabric.nic_latency_seconds : 0.0,
                      fabric.link_latency_seconds);
    case FabricKind::ring:
    case FabricKind::torus: {
      int longest = 0;
      for (const int side : sides(fabric)) longest += side / 2;
      return longest * fabric.link_latency_seconds;
    }
    default:
      return fabric.link_latency_seconds;
  }
}

}  // namespace

double Load::seconds() const {
  return link_seconds.empty() ? 0.0 : *std::ranges::max_element(link_seconds);
}

Load& Load::operator+=(const Load& other) {
  link_seconds.resize(std::max(link_seconds.size(), other.link_seconds.size()));
  for (std::size_t i = 0; i < other.link_seconds.size(); ++i) {
    link_seconds[i] += other.link_seconds[i];
  }
  for (const auto& [name, of_class] : other.bytes) {
    bytes[name].total += of_class.total;
    bytes[name].busiest += of_class.busiest;
  }
  return *this;
}

Load Load::operator*(double factor) const {
  Load load = *this;
  for (double& seconds : load.link_seconds) seconds *= factor;
  for (auto& [name, of_class] : load.bytes) {
    of_class.total *= factor;
    of_class.busiest *= factor;
  }
  return load;
}

Loads::Loads(const Network& network)
    : network_(&network), ranks_(network.topology().ranks()) {
  const topology::Topology& topology = network.topology();
  const int nodes = topology.nodes();
  ranks_per_node_ = ranks_ % nodes == 0 ? ranks_ / nodes : ranks_;
  for (Rank rank = 0; rank < ranks_; ++rank) {
    // Nodes of equally many consecutive ranks, or it counts as one.
    if (topology.vertex(rank).node !=
        topology.vertex(rank / ranks_per_node_ * ranks_per_node_).node) {
      ranks_per_node_ = ranks_;
      break;
    }
  }
  latency_ = latency(ranks_);
}

Loads::Loads(const Fabric& fabric)
    : fabric_(fabric),
      ranks_(fabric.ranks),
      ranks_per_node_(fabric.ranks_per_node()),
      latency_(latency_of(fabric)) {
  topology::check(fabric);
}

double Loads::latency(int group) const {
  if (network_ == nullptr) {
    const bool inside = fabric_->kind == FabricKind::two_level &&
                        group <= fabric_->ranks_per_node();
    return inside ? fabric_->link_latency_seconds : latency_;
  }
  double slowest = 0;
  for (Rank from = 0; from < ranks_; ++from) {
    const Rank first = from / group * group;
    for (Rank to = first; to < std::min(first + group, ranks_); ++to) {
      slowest = std::max(slowest, network_->latency(from, to));
    }
  }
  return slowest;
}

double Loads::best_in_rate() const {
  if (network_ != nullptr) {
    const topology::Topology& topology = network_->topology();
    double best = 0;
    for (Rank rank = 0; rank < ranks_; ++rank) {
      double rate = 0;
      for (const int link : topology.incoming(rank)) {
        rate += topology.links()[link].bytes_per_second;
      }
      best = std::max(best, rate);
    }
    return best;
  }
  const double rate = fabric_->link_bytes_per_second;
  switch (fabric_->kind) {
    case FabricKind::mesh:
      return (ranks_ - 1) * rate;
    case FabricKind::switch_:
      return rate;
    case FabricKind::ring:
    case FabricKind::torus: {
      double links = 0;
      for (const int side : sides(*fabric_)) links += out_links(side);
      return links * rate;
    }
    case FabricKind::two_level:
      return fabric_->nic_bytes_per_second +
             rate * (fabric_->inside == FabricKind::mesh ? ranks_per_node_ - 1
                                                         : 1);
  }
  throw InternalError("bug in ringweave: a fabric without rates");
}

Load Loads::messages(const std::vector<std::pair<Rank, Rank>>& pairs) const {
  ensure(network_ != nullptr, "messages on a fabric without links");
  Load load;
  load.link_seconds.resize(network_->resources());
  const auto& links = network_->topology().links();
  std::vector<double> bytes(links.size());
  for (const auto& [from, to] : pairs) {
    for (const int resource : network_->route(from, to)) {
      load.link_seconds[resource] += 1 / network_->capacity(resource);
    }
    for (const int link : network_->links(from, to)) bytes[link] += 1;
  }
  for (std::size_t i = 0; i < links.size(); ++i) {
    ClassBytes& of_class = load.bytes[links[i].link_class];
    of_class.total += bytes[i];
    of_class.busiest = std::max(of_class.busiest, bytes[i]);
  }
  return load;
}

Load Loads::from_last() const {
  if (network_ != nullptr) {
    std::vector<std::pair<Rank, Rank>> all;
    for (Rank to = 0; to + 1 < ranks_; ++to) all.emplace_back(ranks_ - 1, to);
    return messages(all);
  }
  const double others = ranks_ - 1;
  const double rate = fabric_->link_bytes_per_second;
  switch (fabric_->kind) {
    case FabricKind::mesh:
      return uniform({{"link", {others, 1}}}, {rate});
    case FabricKind::switch_:
      return uniform({{"port", {2 * others, others}}}, {rate});
    case FabricKind::ring:
    case FabricKind::torus: {
      double hops_of_rank = 0;
      double links = 0;
      for (const int side : sides(*fabric_)) {
        hops_of_rank += ranks_ * mean_hops(side);
        links += out_links(side);
      }
      const double busiest = others > 0 ? others / links : 0;
      return uniform({{"link", {hops_of_rank, busiest}}}, {rate});
    }
    case FabricKind::two_level: {
      const double near = ranks_per_node_ - 1;
      const double far = ranks_ - ranks_per_node_;
      const bool mesh = fabric_->inside == FabricKind::mesh;
      return uniform(
          {{mesh ? "link" : "port",
            {(mesh ? 1 : 2) * near, mesh ? std::min(near, 1.0) : near}},
           {"to_nic", {2 * far, far}},
           {"nic", {2 * far, far}}},
          {rate, fabric_->nic_bytes_per_second, fabric_->nic_bytes_per_second});
    }
  }
  throw InternalError("bug in ringweave: a fabric without loads");
}

Load Loads::pairs(int group) const {
  if (network_ != nullptr) {
    std::vector<std::pair<Rank, Rank>> all;
    for (Rank from = 0; from < ranks_; ++from) {
      const Rank first = from / group * group;
      for (Rank to = first; to < std::min(first + group, ranks_); ++to) {
        if (to != from) all.emplace_back(from, to);
      }
    }
    return messages(all);
  }
  const double n = ranks_;
  const double others = group - 1;
  const double rate = fabric_->link_bytes_per_second;
  switch (fabric_->kind) {
    case FabricKind::mesh:
      return uniform({{"link", {n * others, 1}}}, {rate});
    case FabricKind::switch_:
      return uniform({{"port", {2 * n * others, others}}}, {rate});
    case FabricKind::ring:
    case FabricKind::torus: {
      double hops_of_rank = 0;
      double busiest = 0;
      for (const int side : sides(*fabric_)) {
        const double hops = n * mean_hops(side);
        hops_of_rank += hops;
        if (side > 1) busiest = std::max(busiest, hops / out_links(side));
      }
      // Of a smaller group: as much of it as it has pairs.
      const double share = others / (n - 1);
      return uniform({{"link", {n * hops_of_rank * share, busiest * share}}},
                     {rate});
    }
    case FabricKind::two_level: {
      const int m = ranks_per_node_;
      const double near = std::min(group, m) - 1;
      const double far = group > m ? group - m : 0;
      const double sharing = static_cast<double>(m) / fabric_->nics_per_node;
      const bool mesh = fabric_->inside == FabricKind::mesh;
      return uniform(
          {{mesh ? "link" : "port",
            {(mesh ? 1 : 2) * n * near, mesh ? std::min(near, 1.0) : near}},
           {"to_nic", {2 * n * far, far}},
           {"nic", {2 * n * far, sharing * far}}},
          {rate, fabric_->nic_bytes_per_second, fabric_->nic_bytes_per_second});
    }
  }
  throw InternalError("bug in ringweave: a fabric without loads");
}

// Ranks that leave their node: those within `distance` of its end, or of the
// group's.
Load Loads::two_level_shift(int distance, int group) const {
  const int m = ranks_per_node_;
  int leaving = 0;  // of the first node; all are alike
  for (Rank rank = 0; rank < m; ++rank) {
    const Rank first = rank / group * group;
    const Rank to = first + (rank - first + distance) % group;
    leaving += to / m != 0;
  }
  const double n = ranks_;
  const double share = static_cast<double>(leaving) / m;
  const int sharing = m / fabric_->nics_per_node;
  const bool mesh = fabric_->inside == FabricKind::mesh;
  const double near = share < 1 ? 1 : 0;
  const double far = leaving > 0 ? 1 : 0;
  return uniform(
      {{mesh ? "link" : "port", {(mesh ? 1 : 2) * n * (1 - share), near}},
       {"to_nic", {2 * n * share, far}},
       {"nic", {2 * n * share, std::min<double>(leaving, sharing)}}},
      {fabric_->link_bytes_per_second, fabric_->nic_bytes_per_second,
       fabric_->nic_bytes_per_second});
}

Load Loads::shift(int distance, int group) const {
  if (network_ != nullptr) {
    std::vector<std::pair<Rank, Rank>> all;
    for (Rank from = 0; from < ranks_; ++from) {
      const Rank first = from / group * group;
      all.emplace_back(from, first + (from - first + distance) % group);
    }
    return messages(all);
  }
  const double n = ranks_;
  const double rate = fabric_->link_bytes_per_second;
  switch (fabric_->kind) {
    case FabricKind::mesh:
      return uniform({{"link", {n, 1}}}, {rate});
    case FabricKind::switch_:
      return uniform({{"port", {2 * n, 1}}}, {rate});
    case FabricKind::ring:
    case FabricKind::torus: {
      // Digits of the distance, the last dimension fastest.
      double all = 0;
      double busiest = 0;
      int rest = distance;
      const std::vector<int> dimensions = sides(*fabric_);
      for (auto side = dimensions.rbegin(); side != dimensions.rend(); ++side) {
        const double along = hops(rest, *side);
        rest /= *side;
        all += along;
        busiest = std::max(busiest, along);
      }
      return uniform({{"link", {n * all, busiest}}}, {rate});
    }
    case FabricKind::two_level:
      return two_level_shift(distance, group);
  }
  throw InternalError("bug in ringweave: a fabric without loads");
}

MachineLoads::MachineLoads(const Machine& machine) {
  if (machine.topology) {
    network_.emplace(*machine.topology);
    loads_.emplace(*network_);
  } else {
    loads_.emplace(*machine.fabric);
  }
}

}  // namespace ringweave::planner
