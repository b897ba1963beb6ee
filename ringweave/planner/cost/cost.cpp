#include "ringweave/planner/cost/cost.h"

#include <algorithm>
#include <cmath>
#include <queue>
#include <utility>
#include <vector>

#include "ringweave/base/error.h"

namespace ringweave::planner {
namespace {

/// Events within this share of the time so far happen at once.
constexpr double kSimultaneous = 1e-12;

// Lists of flows by (rank, step), one after the other.
class FlowLists {
 public:
  template <typename Key>
  FlowLists(std::size_t keys, const std::vector<Flow>& flows, Key key)
      : begin_(keys + 1), flows_(flows.size()) {
    for (const Flow& flow : flows) ++begin_[key(flow) + 1];
    for (std::size_t i = 0; i < keys; ++i) begin_[i + 1] += begin_[i];
    std::vector<int> next(begin_.begin(), begin_.end() - 1);
    for (std::size_t i = 0; i < flows.size(); ++i) {
      flows_[next[key(flows[i])]++] = static_cast<int>(i);
    }
  }

  std::span<const int> at(std::size_t key) const {
    return {flows_.data() + begin_[key], flows_.data() + begin_[key + 1]};
  }

 private:
  std::vector<int> begin_;
  std::vector<int> flows_;
};

enum class EventKind { rank_free, flow_starts, flow_ends, rates };

struct Event {
  double time = 0;
  EventKind kind = EventKind::rank_free;
  int id = 0;
  unsigned version = 0;  // of a flow's rate; older ones are void
};

struct Later {
  bool operator()(const Event& a, const Event& b) const {
    if (a.time != b.time) return a.time > b.time;
    if (a.kind != b.kind) return a.kind > b.kind;
    return a.id > b.id;
  }
};

class EventLoop {
 public:
  EventLoop(const Traffic& traffic, const Network& network, double busy_seconds,
            const CostOptions& options)
      : traffic_(traffic),
        network_(network),
        options_(options),
        busy_seconds_(busy_seconds),
        n_(traffic.ranks),
        share_(network.capacities(), static_cast<int>(traffic.flows.size())),
        sends_(cells(), traffic.flows,
               [this](const Flow& f) { return cell(f.from, f.post_step); }),
        receives_(cells(), traffic.flows,
                  [this](const Flow& f) { return cell(f.to, f.post_step); }),
        moving_(traffic.flows.size()),
        waits_(cells()),
        ranks_(n_) {
    for (const Flow& flow : traffic.flows) {
      ++waits_[cell(flow.from, flow.wait_step)];
      ++waits_[cell(flow.to, flow.wait_step)];
      budget_ += options.visits_per_hop *
                 static_cast<double>(network.route(flow.from, flow.to).size());
    }
    budget_ = std::max(budget_, options.least_budget);
  }

  double run() {
    for (Rank rank = 0; rank < n_; ++rank) events_.push({0, {}, rank, 0});
    while (!events_.empty()) {
      const double now = events_.top().time;
      const double until = now * (1 + kSimultaneous);
      while (!events_.empty() && events_.top().time <= until) {
        const Event event = events_.top();
        events_.pop();
        handle(event, now);
      }
      if (share_.stale()) set_rates(now);
    }
    double end = 0;
    for (const RankState& rank : ranks_) {
      ensure(rank.step > traffic_.steps, "a pass whose ranks wait for ever");
      end = std::max(end, rank.time);
    }
    return end;
  }

 private:
  struct Moving {
    double posted = -1;    // when one side had posted it
    double remaining = 0;  // bytes, at `since`
    double since = 0;
    double rate = 0;
    unsigned version = 0;
  };
  struct RankState {
    int step = 0;      // that begins next
    double time = 0;   // when it had done the step before
    bool free = true;  // has done it, at the time that events have come to
  };

  std::size_t cells() const {
    return static_cast<std::size_t>(n_) * (traffic_.steps + 1);
  }
  std::size_t cell(Rank rank, int step) const {
    return static_cast<std::size_t>(rank) * (traffic_.steps + 1) + step;
  }

  void handle(const Event& event, double now) {
    switch (event.kind) {
      case EventKind::rank_free:
        ranks_[event.id].free = true;
        return try_step(event.id, now);
      case EventKind::flow_starts:
        return start(event.id, now);
      case EventKind::flow_ends:
        if (event.version == moving_[event.id].version) end(event.id, now);
        return;
      case EventKind::rates:
        return;  // run() sets them
    }
  }

  void try_step(Rank rank, double now) {
    RankState& state = ranks_[rank];
    while (state.free && state.step <= traffic_.steps &&
           waits_[cell(rank, state.step)] == 0) {
      state.time = now;
      if (state.step < traffic_.steps) post_and_compute(rank, now);
      ++state.step;
    }
  }

  void post_and_compute(Rank rank, double now) {
    RankState& state = ranks_[rank];
    for (const int flow : receives_.at(cell(rank, state.step))) {
      post(flow, now);
    }
    double time = now;
    for (const int flow : sends_.at(cell(rank, state.step))) {
      // Its messages are posted one after another; it stands for their mean.
      const double posting = options_.message_overhead_seconds;
      const double more = traffic_.flows[flow].messages - 1;
      post(flow, time + posting * (1 + more / 2));
      time += posting * (1 + more);
    }
    time +=
        traffic_.step_seconds[static_cast<std::size_t>(state.step) * n_ + rank];
    if (time <= now) return;
    state.free = false;
    state.time = time;
    events_.push({time, EventKind::rank_free, rank, 0});
  }

  // One side has posted it, or will have at `time`; with both it starts.
  void post(int index, double time) {
    Moving& moving = moving_[index];
    if (moving.posted < 0) {
      moving.posted = time;
      return;
    }
    const Flow& flow = traffic_.flows[index];
    events_.push(
        {std::max(time, moving.posted) + network_.latency(flow.from, flow.to),
         EventKind::flow_starts, index, 0});
  }

  void start(int index, double now) {
    const Flow& flow = traffic_.flows[index];
    Moving& moving = moving_[index];
    moving.remaining = flow.bytes;
    moving.since = now;
    share_.start(index, network_.route(flow.from, flow.to), flow.messages);
    if (now < next_setting_) go_on(index, share_.first_guess(index));
  }

  void end(int index, double now) {
    const Flow& flow = traffic_.flows[index];
    share_.end(index);
    for (const Rank rank : {flow.from, flow.to}) {
      if (--waits_[cell(rank, flow.wait_step)] == 0) try_step(rank, now);
    }
  }

  // The flow moves at `rate` from `since` on.
  void go_on(int index, double rate) {
    Moving& moving = moving_[index];
    ++moving.version;
    moving.rate = rate;
    events_.push({moving.since + moving.remaining / rate, EventKind::flow_ends,
                  index, moving.version});
  }

  void set_rates(double now) {
    if (now < next_setting_) {
      if (!setting_planned_) {
        events_.push({next_setting_, EventKind::rates, 0, 0});
        setting_planned_ = true;
      }
      return;
    }
    for (const int index : share_.update()) {
      Moving& moving = moving_[index];
      moving.remaining =
          std::max(0.0, moving.remaining - (now - moving.since) * moving.rate);
      moving.since = now;
      go_on(index, share_.rate(index));
    }
    // The budget at once, and as much again in the time it takes at least.
    const auto spent = static_cast<double>(share_.visits()) / budget_;
    next_setting_ = std::max(now, busy_seconds_ * (spent - 1));
    setting_planned_ = false;
  }

  const Traffic& traffic_;
  const Network& network_;
  const CostOptions& options_;
  double busy_seconds_;  // of the busiest link or rank
  double budget_ = 0;    // visits
  int n_;
  FairShare share_;
  FlowLists sends_;
  FlowLists receives_;
  std::vector<Moving> moving_;
  std::vector<int> waits_;  // transfers that are still waited for, by cell
  std::vector<RankState> ranks_;
  std::priority_queue<Event, std::vector<Event>, Later> events_;
  double next_setting_ = 0;
  bool setting_planned_ = false;
};

}  // namespace

LinkClassBytes link_class_bytes(const Traffic& traffic,
                                const Network& network) {
  const auto& links = network.topology().links();
  std::vector<double> bytes(links.size());
  for (const Flow& flow : traffic.flows) {
    for (const int link : network.links(flow.from, flow.to)) {
      bytes[link] += flow.bytes;
    }
  }
  LinkClassBytes classes;
  for (std::size_t i = 0; i < links.size(); ++i) {
    ClassBytes& of_class = classes[links[i].link_class];
    of_class.total += bytes[i];
    of_class.busiest = std::max(of_class.busiest, bytes[i]);
  }
  return classes;
}

namespace {

double busiest_seconds(const Traffic& traffic, const Network& network) {
  std::vector<double> seconds(network.resources());
  for (const Flow& flow : traffic.flows) {
    for (const int resource : network.route(flow.from, flow.to)) {
      seconds[resource] += flow.bytes / network.capacity(resource);
    }
  }
  return seconds.empty() ? 0.0 : *std::ranges::max_element(seconds);
}

}  // namespace

PassCost pass_cost(const Traffic& traffic, const Network& network,
                   const CostOptions& options) {
  require(
      traffic.ranks == network.topology().ranks(),
      "[cost] got a schedule of {} ranks on a topology of {}; want the same",
      traffic.ranks, network.topology().ranks());
  PassCost cost;
  for (Rank rank = 0; rank < traffic.ranks; ++rank) {
    cost.compute_seconds =
        std::max(cost.compute_seconds, traffic.compute_seconds(rank));
  }
  cost.bytes = link_class_bytes(traffic, network);
  cost.link_seconds = busiest_seconds(traffic, network);
  const double busy_seconds = std::max(cost.compute_seconds, cost.link_seconds);
  cost.seconds = EventLoop(traffic, network, busy_seconds, options).run();
  return cost;
}

}  // namespace ringweave::planner
