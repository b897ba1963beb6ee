#include "ringweave/sim/engine.h"

#include <csignal>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <simgrid/kernel/Timer.hpp>
#include <simgrid/s4u.hpp>
#include <xbt/log.h>

namespace ringweave::sim {
namespace {

namespace s4u = simgrid::s4u;

constexpr const char* kConfig[] = {
    "network/model:CM02",      // bytes / rate, shared max-min fairly
    "network/TCP-gamma:0",     // no limit by a TCP window
    "network/crosstraffic:0",  // no load of acknowledgements
    "surf/precision:1e-12",    // seconds: ends this close count as one
    "contexts/stack-size:256"  // KiB; actors here call nothing deep
};

/// SimGrid's own handlers would take SIGINT from the program for good.
class KeptSignals {
 public:
  KeptSignals() {
    for (std::size_t i = 0; i < std::size(kSignals); ++i) {
      sigaction(kSignals[i], nullptr, &before_[i]);
    }
  }
  ~KeptSignals() {
    for (std::size_t i = 0; i < std::size(kSignals); ++i) {
      sigaction(kSignals[i], &before_[i], nullptr);
    }
  }
  KeptSignals(const KeptSignals&) = delete;
  KeptSignals& operator=(const KeptSignals&) = delete;

 private:
  static constexpr int kSignals[] = {SIGINT, SIGSEGV, SIGABRT};
  struct sigaction before_[std::size(kSignals)] = {};
};

void sleep(double seconds) {
  if (seconds > 0) s4u::this_actor::sleep_for(seconds);
}

class Simulation {
 public:
  Simulation(const Script& script, const Network& network);

  Record run();

 private:
  struct Message {
    bool posted = false;  ///< by one side
    bool arrived = false;
    double latency_seconds = 0;
  };
  struct RankState {
    s4u::ActorPtr actor = {};
    int step = 0;
    int awaited = 0;  ///< messages of the step that are still to arrive
    bool asleep = false;
  };
  /// An actor that moves one message at a time, to its end.
  struct Carrier {
    s4u::ActorPtr actor = {};
    int message = 0;
  };

  double now() const { return s4u::Engine::get_clock() - begin_; }

  void make_hosts_and_links();
  void make_actors();
  void fail_links();

  void run_rank(Rank rank);
  bool wait(Rank rank, int step);
  void post(int message);
  void run_carrier(Carrier& carrier);
  bool move(int message);
  void arrive(int message);
  void end_if_nothing_moves();

  const Script& script_;
  const Network& network_;
  Record record_;
  double begin_ = 0;  ///< SimGrid's clock runs on from one engine to the next
  std::vector<s4u::Host*> hosts_;
  std::vector<s4u::Link*> links_;  ///< by capacity
  std::vector<Message> messages_;
  std::vector<RankState> ranks_;
  std::deque<Carrier> carriers_;  ///< as many as messages move at once
  std::vector<Carrier*> idle_;    ///< those of them that are suspended
  int ranks_awake_ = 0;
  int messages_moving_ = 0;
  bool over_ = false;
};

Simulation::Simulation(const Script& script, const Network& network)
    : script_(script), network_(network) {
  record_.messages.resize(script.messages.size());
  record_.tiles.resize(script.tile_seconds.size());
  record_.ends.assign(script.steps.size(), kNever);
  messages_.resize(script.messages.size());
  for (std::size_t i = 0; i < messages_.size(); ++i) {
    for (const int link : *script.messages[i].route) {
      messages_[i].latency_seconds += network.latency_seconds[link];
    }
  }
  ranks_.resize(script.steps.size());
}

Record Simulation::run() {
  const KeptSignals kept;
  s4u::Engine engine("ringweave");
  static const bool configured = [] {
    for (const char* entry : kConfig) s4u::Engine::set_config(entry);
    return true;
  }();
  static_cast<void>(configured);
  begin_ = s4u::Engine::get_clock();
  make_hosts_and_links();
  fail_links();
  make_actors();
  engine.run();
  // What refers to the engine goes before it.
  ranks_.clear();
  carriers_.clear();
  return std::move(record_);
}

void Simulation::make_hosts_and_links() {
  s4u::NetZone* zone = s4u::create_full_zone("machine");
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
    hosts_.push_back(zone->create_host(fmt::format("rank {}", rank), 1.0));
  }
  for (std::size_t i = 0; i < network_.bytes_per_second.size(); ++i) {
    links_.push_back(zone->create_link(fmt::format("link {}", i),
                                       network_.bytes_per_second[i]));
  }
  std::map<std::pair<Rank, Rank>, const std::vector<int>*> routes;
  for (const Script::Message& message : script_.messages) {
    routes[{message.from, message.to}] = message.route;
  }
  for (const auto& [pair, route] : routes) {
    std::vector<s4u::LinkInRoute> way;
    for (const int link : *route) {
      way.emplace_back(links_[network_.capacity[link]]);
    }
    zone->add_route(hosts_[pair.first]->get_netpoint(),
                    hosts_[pair.second]->get_netpoint(), nullptr, nullptr, way,
                    false);
  }
  zone->seal();
}

void Simulation::fail_links() {
  for (const Network::Failure& failure : network_.failures) {
    s4u::Link* link = links_[failure.capacity];
    simgrid::kernel::timer::Timer::set(begin_ + failure.seconds,
                                       [link] { link->turn_off(); });
  }
}

void Simulation::make_actors() {
  ranks_awake_ = static_cast<int>(ranks_.size());
  for (Rank rank = 0; rank < static_cast<Rank>(ranks_.size()); ++rank) {
    ranks_[rank].actor = s4u::Actor::create("rank", hosts_[rank],
                                            [this, rank] { run_rank(rank); });
  }
}

void Simulation::run_rank(Rank rank) {
  const auto& steps = script_.steps[rank];
  for (int step = 0; step < static_cast<int>(steps.size()); ++step) {
    if (!wait(rank, step)) return;
    for (const int message : steps[step].receives) post(message);
    for (const int message : steps[step].sends) {
      sleep(script_.message_overhead_seconds);
      record_.messages[message].post_seconds = now();
      post(message);
    }
    for (const int tile : steps[step].tiles) {
      record_.tiles[tile].start_seconds = now();
      sleep(script_.tile_seconds[tile]);
      record_.tiles[tile].end_seconds = now();
    }
  }
  record_.ends[rank] = now();
  --ranks_awake_;
  end_if_nothing_moves();
}

/// False if the messages of the step will never all arrive.
bool Simulation::wait(Rank rank, int step) {
  RankState& state = ranks_[rank];
  state.step = step;
  state.awaited = 0;
  for (const int message : script_.steps[rank][step].waits) {
    if (!messages_[message].arrived) ++state.awaited;
  }
  if (state.awaited == 0) return true;
  const double start = now();
  state.asleep = true;
  --ranks_awake_;
  end_if_nothing_moves();
  if (!over_) s4u::this_actor::suspend();
  const bool arrived = state.awaited == 0;
  const double end = arrived ? now() : kNever;
  if (end > start) record_.waits.push_back({rank, step, start, end});
  return arrived;
}

/// One side is ready for the message; it starts when both are.
void Simulation::post(int index) {
  Message& message = messages_[index];
  if (!message.posted) {
    message.posted = true;
    return;
  }
  record_.messages[index].start_seconds = now();
  ++messages_moving_;
  if (!idle_.empty()) {
    Carrier* carrier = idle_.back();
    idle_.pop_back();
    carrier->message = index;
    carrier->actor->resume();
    return;
  }
  Carrier* carrier = &carriers_.emplace_back();
  carrier->message = index;
  carrier->actor =
      s4u::Actor::create("carrier", hosts_[script_.messages[index].from],
                         [this, carrier] { run_carrier(*carrier); });
}

void Simulation::run_carrier(Carrier& carrier) {
  while (!over_) {
    if (move(carrier.message)) arrive(carrier.message);
    --messages_moving_;
    idle_.push_back(&carrier);
    end_if_nothing_moves();
    if (!over_) s4u::this_actor::suspend();
  }
}

/// Whether the message comes to an end; returns when it does, or fails.
bool Simulation::move(int index) {
  const Script::Message& message = script_.messages[index];
  sleep(messages_[index].latency_seconds);
  try {
    s4u::Comm::sendto(hosts_[message.from], hosts_[message.to], message.bytes);
  } catch (const simgrid::NetworkFailureException&) {
    return false;
  }
  return true;
}

void Simulation::arrive(int index) {
  const Script::Message& message = script_.messages[index];
  messages_[index].arrived = true;
  record_.messages[index].end_seconds = now();
  for (const Rank rank : {message.from, message.to}) {
    RankState& state = ranks_[rank];
    if (!state.asleep || state.step != message.wait_step) continue;
    if (--state.awaited > 0) continue;
    state.asleep = false;
    ++ranks_awake_;
    state.actor->resume();
  }
}

/// Wakes the ranks that wait for ever, and the idle carriers, so that they
/// return.
void Simulation::end_if_nothing_moves() {
  if (ranks_awake_ > 0 || messages_moving_ > 0 || over_) return;
  over_ = true;
  const auto wake = [](const s4u::ActorPtr& actor) {
    if (actor.get() != s4u::Actor::self()) actor->resume();
  };
  for (const RankState& state : ranks_) {
    if (state.asleep) wake(state.actor);
  }
  for (const Carrier* carrier : idle_) wake(carrier->actor);
}

}  // namespace

Record play(const Script& script, const Network& network) {
  static std::mutex one_engine;
  const std::lock_guard lock(one_engine);
  xbt_log_control_set("root.thresh:error");
  return Simulation(script, network).run();
}

}  // namespace ringweave::sim
