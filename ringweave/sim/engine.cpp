#include "ringweave/sim/engine.h"

#include <algorithm>
#include <csignal>
#include <exception>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>
#include <simgrid/Exception.hpp>
#include <simgrid/kernel/Timer.hpp>
#include <simgrid/kernel/resource/NetworkModelIntf.hpp>
#include <simgrid/s4u.hpp>
#include <xbt/log.h>

namespace ringweave::sim {
namespace {

namespace s4u = simgrid::s4u;

constexpr const char* kConfig[] = {
    "network/model:CM02",       // bytes / rate, shared max-min fairly
    "network/TCP-gamma:0",      // no limit by a TCP window
    "network/crosstraffic:0",   // no load of acknowledgements
    "surf/precision:1e-12",     // seconds: ends this close count as one
    "contexts/stack-size:256",  // KiB; actors here call nothing deep
};

/// More than any route has.
constexpr double kUnlimited = 1e30;

/// Puts back the handlers of the signals that an engine takes when it is made.
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
  static constexpr int kSignals[] = {SIGINT, SIGSEGV, SIGBUS};
  struct sigaction before_[std::size(kSignals)] = {};
};

/// While it lives, the engine calls a function each time that the clock moves
/// on, in no actor. SimGrid can't forget a callback: one stays for good.
class TimeAdvance {
 public:
  explicit TimeAdvance(std::function<void()> call) {
    call_ = std::move(call);
    static const bool connected = [] {
      s4u::Engine::on_time_advance_cb([](double) {
        if (call_) call_();
      });
      return true;
    }();
    static_cast<void>(connected);
  }
  ~TimeAdvance() { call_ = {}; }
  TimeAdvance(const TimeAdvance&) = delete;
  TimeAdvance& operator=(const TimeAdvance&) = delete;

 private:
  static inline std::function<void()> call_;
};

// Sanitizers can't follow an actor that changes stacks by itself; there each
// is a thread, which is slower.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr const char* kActors = "contexts/factory:thread";
#else
constexpr const char* kActors = "contexts/factory:raw";
#endif

void configure() {
  static const bool done = [] {
    for (const char* entry : kConfig) s4u::Engine::set_config(entry);
    return true;
  }();
  static_cast<void>(done);
}

void sleep(double seconds) {
  if (seconds > 0) s4u::this_actor::sleep_for(seconds);
}

/// Waits for it. Actors must not switch while one of them handles an exception.
bool arrives(s4u::Comm& message) {
  try {
    message.wait();
    return true;
  } catch (const simgrid::NetworkFailureException&) {
    return false;
  }
}

/// Not suspend(), which would stop the actor's messages as well.
void block_for_ever() { s4u::Semaphore::create(0)->acquire(); }

class Simulation {
 public:
  Simulation(const Script& script, const Network& network,
             const std::function<void()>& poll);

  Record run();

 private:
  /// What a rank has posted and not waited for yet, by message.
  using Posted = std::map<int, s4u::CommPtr>;

  /// SimGrid's clock runs on from one engine to the next.
  double since_begin(double clock) const { return clock - begin_; }
  double now() const { return since_begin(s4u::Engine::get_clock()); }

  void make_network();
  void make_routes(s4u::NetZone* zone);
  double latency_of(const Script::Message& message) const;
  void make_actors();

  bool stopped();

  void run_rank(Rank rank);
  void wait_for_all(Rank rank, int step, Posted& posted);
  void post(Rank rank, int message, Posted& posted);

  const Script& script_;
  const Network& network_;
  const std::function<void()>& poll_;
  std::exception_ptr stop_;  ///< thrown by poll_
  Record record_;
  double begin_ = 0;
  std::vector<s4u::Host*> hosts_;
  std::vector<s4u::Link*> links_;         ///< by capacity
  std::vector<s4u::Mailbox*> mailboxes_;  ///< by message
  int payload_ = 0;  ///< SimGrid wants something to pass on
  int* received_ = nullptr;
};

Simulation::Simulation(const Script& script, const Network& network,
                       const std::function<void()>& poll)
    : script_(script), network_(network), poll_(poll) {
  record_.messages.resize(script.messages.size());
  record_.tiles.resize(script.tile_seconds.size());
  record_.ends.assign(script.steps.size(), kNever);
  record_.stuck.assign(script.steps.size(), -1);
}

Record Simulation::run() {
  // Also the message that some actors are blocked for ever: an ordinary end.
  xbt_log_control_set("root.app:file:/dev/null");
  s4u::Engine::set_config(kActors);
  std::optional<KeptSignals> kept(std::in_place);
  s4u::Engine engine("ringweave");
  kept.reset();
  configure();
  begin_ = s4u::Engine::get_clock();
  make_network();
  if (!stopped()) make_actors();
  const TimeAdvance on_time_advance([this] {
    if (stopped()) s4u::Actor::kill_all();
  });
  engine.run();
  if (stop_) std::rethrow_exception(stop_);
  return std::move(record_);
}

void Simulation::make_network() {
  s4u::NetZone* zone = s4u::create_full_zone("machine");
  for (std::size_t rank = 0; rank < script_.steps.size(); ++rank) {
    hosts_.push_back(zone->create_host(fmt::format("rank {}", rank), 1.0));
  }
  for (std::size_t i = 0; i < network_.bytes_per_second.size(); ++i) {
    links_.push_back(zone->create_link(fmt::format("link {}", i),
                                       network_.bytes_per_second[i]));
  }
  make_routes(zone);
  zone->seal();
  for (const Network::Failure& failure : network_.failures) {
    s4u::Link* link = links_[failure.capacity];
    simgrid::kernel::timer::Timer::set(begin_ + failure.seconds,
                                       [link] { link->turn_off(); });
  }
}

/// SimGrid gives a flow a share of a link in inverse proportion to its route's
/// latency; here all flows are to share alike. So every route with a latency
/// has 1 second in SimGrid, on a link of its own, and the factor that makes it
/// right, which SimGrid applies to the delay but not to the share. It comes
/// first: when the latencies of several messages end at once, SimGrid 3.32
/// looks only at the first link of all but one of them to see what has to be
/// shared anew.
void Simulation::make_routes(s4u::NetZone* zone) {
  using Ends = std::pair<const s4u::Host*, const s4u::Host*>;
  std::map<Ends, double> latencies;
  std::map<Ends, s4u::Mailbox*> mailboxes;
  for (const Script::Message& message : script_.messages) {
    if (stopped()) return;
    s4u::Host* from = hosts_[message.from];
    s4u::Host* to = hosts_[message.to];
    const auto [mailbox, is_new] = mailboxes.try_emplace({from, to});
    if (is_new) {
      const std::string name =
          fmt::format("rank {} to rank {}", message.from, message.to);
      mailbox->second = s4u::Mailbox::by_name(name);
      const double latency = latency_of(message);
      std::vector<s4u::LinkInRoute> way;
      if (latency > 0) {
        latencies[{from, to}] = latency;
        way.emplace_back(zone->create_link(name, kUnlimited)->set_latency(1.0));
      }
      for (const int link : *message.route) {
        way.emplace_back(links_[network_.capacity[link]]);
      }
      zone->add_route(from->get_netpoint(), to->get_netpoint(), nullptr,
                      nullptr, way, false);
    }
    mailboxes_.push_back(mailbox->second);
  }
  zone->get_network_model()->set_lat_factor_cb(
      [latencies = std::move(latencies)](
          double, const s4u::Host* from, const s4u::Host* to,
          const std::vector<s4u::Link*>&,
          const std::unordered_set<s4u::NetZone*>&) {
        const auto found = latencies.find({from, to});
        return found == latencies.end() ? 0.0 : found->second;
      });
}

double Simulation::latency_of(const Script::Message& message) const {
  double seconds = 0;
  for (const int link : *message.route) {
    seconds += network_.latency_seconds[link];
  }
  return seconds;
}

void Simulation::make_actors() {
  for (Rank rank = 0; rank < static_cast<Rank>(hosts_.size()); ++rank) {
    s4u::Actor::create("rank", hosts_[rank], [this, rank] { run_rank(rank); });
  }
}

/// Calls `poll`. What it throws is kept until the engine has ended as usual:
/// exceptions can't leave an actor, and after one that leaves the engine's loop
/// SimGrid makes no other engine.
bool Simulation::stopped() {
  try {
    if (!stop_ && poll_) poll_();
  } catch (...) {
    stop_ = std::current_exception();
  }
  return stop_ != nullptr;
}

void Simulation::run_rank(Rank rank) {
  Posted posted;
  const auto& steps = script_.steps[rank];
  for (int step = 0; step < static_cast<int>(steps.size()); ++step) {
    wait_for_all(rank, step, posted);
    if (stopped()) return;
    for (const int message : steps[step].receives) post(rank, message, posted);
    for (const int message : steps[step].sends) {
      sleep(script_.message_overhead_seconds);
      post(rank, message, posted);
    }
    for (const int tile : steps[step].tiles) {
      record_.tiles[tile].start_seconds = now();
      sleep(script_.tile_seconds[tile]);
      record_.tiles[tile].end_seconds = now();
    }
  }
  record_.ends[rank] = now();
}

/// Does not return if one of them never arrives. What the rank has posted must
/// stay: SimGrid ends what a finished actor has under way.
void Simulation::wait_for_all(Rank rank, int step, Posted& posted) {
  const double start = now();
  for (const int message : script_.steps[rank][step].waits) {
    record_.stuck[rank] = message;
    if (!arrives(*posted[message])) block_for_ever();
    record_.messages[message].end_seconds =
        since_begin(posted[message]->get_finish_time());
    posted.erase(message);
  }
  record_.stuck[rank] = -1;
  const double end = now();
  if (end > start) record_.waits.push_back({rank, step, start, end});
}

void Simulation::post(Rank rank, int index, Posted& posted) {
  const Script::Message& message = script_.messages[index];
  Record::Message& times = record_.messages[index];
  s4u::Mailbox* mailbox = mailboxes_[index];
  if (message.from == rank) {
    times.send_seconds = now();
    posted[index] = mailbox->put_async(&payload_, message.bytes);
  } else {
    times.receive_seconds = now();
    posted[index] = mailbox->get_async(&received_);
  }
}

}  // namespace

Record play(const Script& script, const Network& network,
            const std::function<void()>& poll) {
  static std::mutex one_engine;
  const std::lock_guard lock(one_engine);
  return Simulation(script, network, poll).run();
}

}  // namespace ringweave::sim
