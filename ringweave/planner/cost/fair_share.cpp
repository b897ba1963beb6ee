#include "ringweave/planner/cost/fair_share.h"

#include <algorithm>
#include <limits>
#include <map>

#include "ringweave/base/error.h"

namespace ringweave::planner {
namespace {

/// Shares that differ by less are the same one.
constexpr double kTie = 1e-9;

}  // namespace

Network::Network(const topology::Topology& topology) : topology_(topology) {
  std::map<int, int> shared;
  std::vector<int> resource_of;
  for (const topology::Link& link : topology.links()) {
    int resource = static_cast<int>(capacity_.size());
    if (link.shared >= 0) {
      resource = shared.try_emplace(link.shared, resource).first->second;
    }
    resource_of.push_back(resource);
    if (resource == static_cast<int>(capacity_.size())) {
      capacity_.push_back(link.bytes_per_second);
    }
  }
  const int n = topology.ranks();
  for (Rank from = 0; from < n; ++from) {
    std::vector<std::vector<int>> routes = topology.routes(from);
    for (Rank to = 0; to < n; ++to) {
      require(to == from || !routes[to].empty(),
              "[cost] got a topology without a route from rank {} to rank {}; "
              "want one between each two",
              from, to);
      double latency = 0;
      std::vector<int> resources;
      for (const int link : routes[to]) {
        latency += topology.links()[link].latency_seconds;
        resources.push_back(resource_of[link]);
      }
      latency_.push_back(latency);
      routes_.push_back(std::move(resources));
      links_.push_back(std::move(routes[to]));
    }
  }
}

FairShare::FairShare(std::span<const double> capacity, int transfers)
    : capacity_(capacity), active_(transfers), resources_(capacity.size()) {}

void FairShare::start(int transfer, std::span<const int> route, double weight) {
  Active& active = active_[transfer];
  active.route = route;
  active.weight = weight;
  active.running = true;
  for (const int resource : active.route) {
    resources_[resource].transfers.push_back(transfer);
    resources_[resource].weight += weight;
    dirty_.push_back(resource);
  }
}

void FairShare::end(int transfer) {
  Active& active = active_[transfer];
  active.running = false;
  for (const int resource : active.route) {
    resources_[resource].weight -= active.weight;
    dirty_.push_back(resource);
  }
}

double FairShare::first_guess(int transfer) const {
  const Active& active = active_[transfer];
  double rate = std::numeric_limits<double>::infinity();
  for (const int resource : active.route) {
    rate = std::min(rate, capacity_[resource] * active.weight /
                              resources_[resource].weight);
  }
  return rate;
}

// All that hangs together with what has changed.
void FairShare::collect() {
  ++round_;
  touched_.clear();
  affected_.clear();
  const auto touch = [&](int index) {
    Resource& resource = resources_[index];
    if (resource.seen == round_) return;
    resource.seen = round_;
    resource.left = capacity_[index];
    resource.waiting = 0;
    touched_.push_back(index);
  };
  for (const int index : dirty_) touch(index);
  dirty_.clear();
  for (std::size_t i = 0; i < touched_.size(); ++i) {
    std::vector<int>& transfers = resources_[touched_[i]].transfers;
    std::erase_if(transfers, [&](int t) { return !active_[t].running; });
    visits_ += transfers.size();
    for (const int transfer : transfers) {
      resources_[touched_[i]].waiting += active_[transfer].weight;
      if (active_[transfer].seen == round_) continue;
      active_[transfer].seen = round_;
      active_[transfer].fixed = false;
      affected_.push_back(transfer);
      for (const int other : active_[transfer].route) touch(other);
    }
  }
}

void FairShare::fix(int transfer, double share) {
  Active& active = active_[transfer];
  active.fixed = true;
  const double rate = share * active.weight;
  for (const int resource : active.route) {
    resources_[resource].left -= rate;
    resources_[resource].waiting -= active.weight;
  }
  if (std::abs(rate - active.rate) <= kTie * rate) return;
  active.rate = rate;
  changed_.push_back(transfer);
}

std::span<const int> FairShare::update() {
  changed_.clear();
  collect();
  std::size_t fixed = 0;
  const auto share_of = [&](int index) {
    const Resource& resource = resources_[index];
    return std::max(resource.left, 0.0) / resource.waiting;
  };
  while (fixed < affected_.size()) {
    std::erase_if(touched_, [&](int index) {
      return resources_[index].waiting < 0.5;  // weights are whole numbers
    });
    double least = std::numeric_limits<double>::infinity();
    for (const int index : touched_) least = std::min(least, share_of(index));
    for (const int index : touched_) {
      const Resource& resource = resources_[index];
      if (resource.waiting < 0.5 || share_of(index) > least * (1 + kTie)) {
        continue;
      }
      visits_ += resource.transfers.size();
      for (const int transfer : resource.transfers) {
        if (active_[transfer].fixed) continue;
        fix(transfer, least);
        ++fixed;
      }
    }
  }
  return changed_;
}

}  // namespace ringweave::planner
