#include "ringweave/comm/link_model.h"

#include <algorithm>
#include <limits>

#include "ringweave/base/error.h"

namespace ringweave::comm {

LinkModel::LinkModel(const topology::Topology& topology)
    : ranks_(topology.ranks()), routes_(ranks_ * ranks_) {
  std::map<int, int> shared;  // number of a shared capacity → its place
  Resources resource;         // of each link
  for (const topology::Link& link : topology.links()) {
    const int next = static_cast<int>(capacity_.size());
    const int place = link.shared < 0
                          ? next
                          : shared.emplace(link.shared, next).first->second;
    resource.push_back(place);
    if (place == next) capacity_.push_back(link.bytes_per_second);
  }
  for (Rank from = 0; from < ranks_; ++from) {
    const std::vector<std::vector<int>> ways = topology.routes(from);
    for (Rank to = 0; to < ranks_; ++to) {
      require(from == to || !ways[to].empty(),
              "[links] got a topology without a route from {} to {}",
              topology.vertex(from).name, topology.vertex(to).name);
      Route& route = routes_[from * ranks_ + to];
      for (const int link : ways[to]) {
        route.resources.push_back(resource[link]);
        route.latency_seconds += topology.links()[link].latency_seconds;
      }
    }
  }
}

int LinkModel::start(Rank from, Rank to, std::int64_t bytes) {
  const int message = static_cast<int>(flows_.size());
  flows_.push_back(
      {.pair = {from, to}, .bytes_left = static_cast<double>(bytes)});
  sending_[{from, to}].push_back(message);
  return message;
}

bool LinkModel::arrived(int message) const {
  const double arrival = flows_[message].arrival;
  return arrival >= 0 && arrival <= now_;
}

/// Progressive filling: the resource that gives its flows least fixes them.
void LinkModel::share() {
  std::vector<double> left = capacity_;
  std::vector<int> users(capacity_.size());
  std::vector<Flow*> open;
  for (const auto& [pair, messages] : sending_) {
    open.push_back(&flows_[messages.front()]);
    for (const int resource : route(*open.back()).resources) ++users[resource];
  }
  while (!open.empty()) {
    int tightest = -1;
    for (int i = 0; i < static_cast<int>(left.size()); ++i) {
      if (users[i] > 0 &&
          (tightest < 0 ||
           left[i] / users[i] < left[tightest] / users[tightest])) {
        tightest = i;
      }
    }
    const double rate = left[tightest] / users[tightest];
    std::erase_if(open, [&](Flow* flow) {
      const Resources& resources = route(*flow).resources;
      if (std::ranges::find(resources, tightest) == resources.end()) {
        return false;
      }
      flow->rate = rate;
      for (const int resource : resources) {
        left[resource] -= rate;
        --users[resource];
      }
      return true;
    });
  }
}

bool LinkModel::advance() {
  if (sending_.empty() && landing_.empty()) return false;
  share();
  double next = std::numeric_limits<double>::infinity();
  for (const int message : landing_) {
    next = std::min(next, flows_[message].arrival);
  }
  const auto end_of = [&](const Flow& flow) {
    return now_ + flow.bytes_left / flow.rate;
  };
  for (const auto& [pair, messages] : sending_) {
    next = std::min(next, end_of(flows_[messages.front()]));
  }
  // Equal flows end together, but for the last bits of a double.
  const double soon = next * (1 + 1e-12);
  for (auto it = sending_.begin(); it != sending_.end();) {
    Flow& flow = flows_[it->second.front()];
    if (end_of(flow) <= soon) {
      flow.arrival = next + route(flow).latency_seconds;
      landing_.push_back(it->second.front());
      it->second.pop_front();
    } else {
      flow.bytes_left -= flow.rate * (next - now_);
    }
    it = it->second.empty() ? sending_.erase(it) : std::next(it);
  }
  now_ = next;
  std::erase_if(landing_, [&](int message) { return arrived(message); });
  return true;
}

}  // namespace ringweave::comm
