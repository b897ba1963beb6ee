#include "ringweave/sim/link_rates.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "ringweave/planner/cost/fair_share.h"

namespace ringweave::sim {
namespace {

/// Seconds within which events count as one, as in the engine.
constexpr double kSimultaneous = 1e-12;

/// Rates that differ by less, relatively, are the same.
constexpr double kTie = 1e-9;

struct RateEvent {
  double seconds = 0;
  int message = 0;
  bool starts = false;
};

class Replay {
 public:
  Replay(const Script& script, const std::vector<MessageTimes>& messages,
         const Platform& platform)
      : script_(script),
        platform_(platform),
        share_(platform.bytes_per_second, static_cast<int>(messages.size())),
        under_way_(platform.capacity.size()),
        changes_(platform.capacity.size()) {
    for (int i = 0; i < static_cast<int>(messages.size()); ++i) {
      routes_.push_back(capacities_of(i));
      add_events(i, messages[i]);
    }
    std::ranges::stable_sort(events_, {}, &RateEvent::seconds);
  }

  std::vector<std::vector<RateChange>> run() {
    std::size_t next = 0;
    while (true) {
      const double time =
          std::min(next < events_.size() ? events_[next].seconds : kNever,
                   next_exhausted());
      if (time == kNever) return std::move(changes_);
      for (Open& one : open_) {
        one.bytes_left -= share_.rate(one.message) * (time - now_);
      }
      now_ = time;
      for (; next < events_.size() &&
             events_[next].seconds <= now_ + kSimultaneous;
           ++next) {
        handle(events_[next]);
      }
      end_exhausted();
      set_rates();
    }
  }

 private:
  /// A message that moves and whose end nobody saw.
  struct Open {
    int message = 0;
    double bytes_left = 0;
  };

  std::vector<int> capacities_of(int message) const {
    std::vector<int> capacities;
    for (const int link : *script_.messages[message].route) {
      capacities.push_back(platform_.capacity[link]);
    }
    return capacities;
  }

  /// When the first link of the message's route fails.
  double failure_of(int message) const {
    double first = kNever;
    for (const Platform::Failure& failure : platform_.failures) {
      if (std::ranges::count(routes_[message], failure.capacity) > 0) {
        first = std::min(first, failure.seconds);
      }
    }
    return first;
  }

  void add_events(int index, const MessageTimes& message) {
    double start = message.start_seconds;
    for (const int link : *script_.messages[index].route) {
      start += platform_.latency_seconds[link];
    }
    const double end = std::min(message.end_seconds, failure_of(index));
    if (start >= end) return;
    events_.push_back({start, index, true});
    if (end != kNever) events_.push_back({end, index, false});
    if (message.end_seconds == kNever) ends_unseen_.push_back(index);
  }

  void handle(const RateEvent& event) {
    if (!event.starts) return end(event.message);
    const int index = event.message;
    share_.start(index, routes_[index], 1);
    for (const int link : *script_.messages[index].route) {
      under_way_[link].push_back(index);
      touched_.push_back(link);
    }
    if (std::ranges::binary_search(ends_unseen_, index)) {
      open_.push_back(
          {index, static_cast<double>(script_.messages[index].bytes)});
    }
  }

  /// Once; an unseen end can come before that by a failure.
  void end(int index) {
    const std::vector<int>& route = *script_.messages[index].route;
    if (std::erase(under_way_[route.front()], index) == 0) return;
    share_.end(index);
    std::erase_if(open_, [&](const Open& o) { return o.message == index; });
    for (const int link : route) {
      std::erase(under_way_[link], index);
      touched_.push_back(link);
    }
  }

  double next_exhausted() const {
    double next = kNever;
    for (const Open& one : open_) {
      next = std::min(next, now_ + std::max(0.0, one.bytes_left) /
                                       share_.rate(one.message));
    }
    return next;
  }

  void end_exhausted() {
    const std::vector<Open> open = open_;
    for (const Open& one : open) {
      const double rate = share_.rate(one.message);
      // Not yet set: it has just started.
      if (rate > 0 && one.bytes_left <= kTie * rate) end(one.message);
    }
  }

  void set_rates() {
    if (share_.stale()) {
      for (const int message : share_.update()) {
        const std::vector<int>& route = *script_.messages[message].route;
        touched_.insert(touched_.end(), route.begin(), route.end());
      }
    }
    std::ranges::sort(touched_);
    touched_.erase(std::unique(touched_.begin(), touched_.end()),
                   touched_.end());
    for (const int link : touched_) {
      const double rate = std::transform_reduce(
          under_way_[link].begin(), under_way_[link].end(), 0.0, std::plus<>(),
          [&](int message) { return share_.rate(message); });
      std::vector<RateChange>& changes = changes_[link];
      const double before =
          changes.empty() ? 0 : changes.back().bytes_per_second;
      if (std::abs(rate - before) > kTie * before) {
        changes.push_back({now_, rate});
      }
    }
    touched_.clear();
  }

  const Script& script_;
  const Platform& platform_;
  planner::FairShare share_;
  std::vector<std::vector<int>> routes_;  ///< in capacities, by message
  std::vector<RateEvent> events_;
  std::vector<int> ends_unseen_;  ///< messages, ascending
  std::vector<Open> open_;
  std::vector<std::vector<int>> under_way_;  ///< messages, by link
  std::vector<int> touched_;                 ///< links
  std::vector<std::vector<RateChange>> changes_;
  double now_ = 0;
};

}  // namespace

std::vector<std::vector<RateChange>> link_rates(
    const Script& script, const std::vector<MessageTimes>& messages,
    const Platform& platform) {
  return Replay(script, messages, platform).run();
}

}  // namespace ringweave::sim
