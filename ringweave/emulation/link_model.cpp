#include "ringweave/emulation/link_model.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

namespace ringweave::emulation {

LinkModel::LinkModel(topology::Topology topology)
    : topology_(std::move(topology)),
      network_(topology_),
      share_(network_.capacities(), topology_.ranks() * topology_.ranks()) {}

int LinkModel::start(Rank from, Rank to, std::int64_t bytes) {
  const int message = static_cast<int>(messages_.size());
  messages_.push_back({.bytes_left = static_cast<double>(bytes)});
  const Pair pair = from * topology_.ranks() + to;
  std::deque<int>& queue = sending_[pair];
  if (queue.empty()) share_.start(pair, network_.route(from, to), 1);
  queue.push_back(message);
  return message;
}

bool LinkModel::arrived(int message) const {
  const double arrival = messages_[message].arrival;
  return arrival >= 0 && arrival <= now_;
}

bool LinkModel::advance() {
  if (sending_.empty() && landing_.empty()) return false;
  share_.update();
  double next = std::numeric_limits<double>::infinity();
  for (const int message : landing_) {
    next = std::min(next, messages_[message].arrival);
  }
  for (const auto& [pair, queue] : sending_) {
    next = std::min(next, end_of(pair, queue.front()));
  }
  // Equal flows end together, but for the last bits of a double.
  const double soon = next * (1 + 1e-12);
  for (auto it = sending_.begin(); it != sending_.end();) {
    auto& [pair, queue] = *it;
    Message& message = messages_[queue.front()];
    if (end_of(pair, queue.front()) <= soon) {
      message.arrival = next + network_.latency(from(pair), to(pair));
      landing_.push_back(queue.front());
      queue.pop_front();
    } else {
      message.bytes_left -= share_.rate(pair) * (next - now_);
    }
    if (queue.empty()) share_.end(pair);
    it = queue.empty() ? sending_.erase(it) : std::next(it);
  }
  // Now, so that a pair which starts again isn't counted twice.
  share_.update();
  now_ = next;
  std::erase_if(landing_, [&](int message) { return arrived(message); });
  return true;
}

}  // namespace ringweave::emulation
