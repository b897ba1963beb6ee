// The timing model of planner/cost/workload.h, played event by event without
// SimGrid: what the tests hold the simulator against.
#pragma once

#include <algorithm>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "ringweave/planner/cost/workload.h"
#include "ringweave/schedule/program/outline.h"
#include "ringweave/topology/topology.h"

namespace ringweave::sim {

class Reference {
 public:
  Reference(const schedule::Schedule& schedule,
            const topology::Topology& topology,
            const planner::Workload& workload)
      : topology_(topology), workload_(workload) {
    std::map<std::pair<Rank, Rank>, std::vector<int>> between;
    const auto outlines =
        schedule::make_outlines(schedule, workload.side_by_side);
    for (const schedule::Outline& outline : outlines) {
      for (const schedule::Message& message : outline.messages) {
        const auto& [from, to] = ends(message);
        if (from != outline.rank) continue;
        between[{from, to}].push_back(static_cast<int>(flows_.size()));
        Flow flow;
        flow.left = static_cast<double>(
            message.size * workload.unit_bytes.at(message.first.payload));
        flow.route = topology.route(from, to);
        flows_.push_back(flow);
      }
    }
    for (const schedule::Outline& outline : outlines) add(outline, between);
  }

  /// Seconds of the whole pass; `end_of` tells those of each message, in the
  /// order of Timeline::messages.
  double run() {
    while (true) {
      while (advance_ranks()) {
      }
      set_rates();
      const double next = next_event();
      if (next == kInfinity) return now_;
      for (Flow& flow : flows_) {
        if (!flow.moves(now_)) continue;
        flow.left -= flow.rate * (next - now_);
        if (flow.left <= 1e-9 * flow.rate) {
          flow.left = 0;
          flow.end = next;
        }
      }
      now_ = next;
    }
  }

  double end_of(std::size_t message) const { return flows_[message].end; }

 private:
  static constexpr double kInfinity = std::numeric_limits<double>::infinity();

  struct Flow {
    double left = 0;
    std::vector<int> route;
    int posts = 0;
    double ready = kInfinity;
    double end = kInfinity;
    double rate = 0;
    bool moves(double now) const { return left > 0 && ready <= now; }
  };
  struct Action {
    enum class Kind { wait, post, sleep } kind = Kind::wait;
    int flow = 0;
    double seconds = 0;
  };
  struct Actor {
    std::vector<Action> actions;
    std::size_t next = 0;
    double busy_until = 0;
  };

  static std::pair<Rank, Rank> ends(const schedule::Message& message) {
    return {message.first.from, message.first.to};
  }

  void add(const schedule::Outline& outline,
           std::map<std::pair<Rank, Rank>, std::vector<int>>& between) {
    std::vector<int> flow;
    std::map<std::pair<Rank, Rank>, int> count;
    for (const schedule::Message& message : outline.messages) {
      flow.push_back(between[ends(message)][count[ends(message)]++]);
    }
    Actor actor;
    using Kind = Action::Kind;
    for (const schedule::Outline::Step& step : outline.steps) {
      for (const int i : step.waits) {
        actor.actions.push_back({Kind::wait, flow[i]});
      }
      for (const int i : step.receives) {
        actor.actions.push_back({Kind::post, flow[i]});
      }
      for (const int i : step.sends) {
        actor.actions.push_back(
            {Kind::sleep, 0, workload_.message_overhead_seconds});
        actor.actions.push_back({Kind::post, flow[i]});
      }
      double work = 0;
      for (const schedule::Tile& tile : step.tiles) {
        work += workload_.tile_work ? workload_.tile_work(tile) : 0;
      }
      actor.actions.push_back({Kind::sleep, 0, workload_.seconds(work)});
    }
    actors_.push_back(std::move(actor));
  }

  /// Whether a rank got on with its actions.
  bool advance_ranks() {
    bool moved = false;
    for (Actor& actor : actors_) {
      while (actor.next < actor.actions.size() && actor.busy_until <= now_) {
        const Action& action = actor.actions[actor.next];
        Flow& flow = flows_[action.flow];
        if (action.kind == Action::Kind::wait && flow.end > now_) break;
        if (action.kind == Action::Kind::sleep) {
          actor.busy_until = now_ + action.seconds;
        }
        if (action.kind == Action::Kind::post && ++flow.posts == 2) {
          flow.ready = now_;
          for (const int link : flow.route) {
            flow.ready += topology_.links()[link].latency_seconds;
          }
        }
        ++actor.next;
        moved = true;
      }
    }
    return moved;
  }

  int capacity(int link) const {
    const int shared = topology_.links()[link].shared;
    return shared < 0 ? link : -1 - shared;
  }

  /// Progressive filling: the scarcest capacity's flows get equal parts of it.
  void set_rates() {
    std::map<int, double> room;
    std::map<int, std::vector<Flow*>> users;
    for (Flow& flow : flows_) {
      flow.rate = 0;
      if (!flow.moves(now_)) continue;
      for (const int link : flow.route) {
        room[capacity(link)] = topology_.links()[link].bytes_per_second;
        users[capacity(link)].push_back(&flow);
      }
    }
    while (true) {
      double share = kInfinity;
      int scarcest = 0;
      for (const auto& [key, flows] : users) {
        const auto open = std::ranges::count(flows, 0, &Flow::rate);
        if (open > 0 && room[key] / static_cast<double>(open) < share) {
          share = room[key] / static_cast<double>(open);
          scarcest = key;
        }
      }
      if (share == kInfinity) return;
      for (Flow* flow : users[scarcest]) {
        if (flow->rate > 0) continue;
        flow->rate = share;
        for (const int link : flow->route) room[capacity(link)] -= share;
      }
    }
  }

  double next_event() const {
    double next = kInfinity;
    for (const Actor& actor : actors_) {
      if (actor.busy_until > now_) next = std::min(next, actor.busy_until);
    }
    for (const Flow& flow : flows_) {
      if (flow.left <= 0 || flow.ready == kInfinity) continue;
      next = std::min(
          next, flow.ready > now_ ? flow.ready : now_ + flow.left / flow.rate);
    }
    return next;
  }

  const topology::Topology& topology_;
  const planner::Workload& workload_;
  std::vector<Flow> flows_;
  std::vector<Actor> actors_;
  double now_ = 0;
};

}  // namespace ringweave::sim
