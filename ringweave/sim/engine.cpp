#include "ringweave/sim/engine.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <exception>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>
#include <simgrid/Exception.hpp>
#include <simgrid/kernel/Timer.hpp>
#include <simgrid/kernel/resource/NetworkModelIntf.hpp>
#include <simgrid/s4u.hpp>
#include <simgrid/simix.hpp>
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

/// Enough to pay for making an actor.
constexpr std::size_t kPostsPerActor = 64;

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

class Simulation {
 public:
  Simulation(const Script& script, const Platform& platform,
             const std::function<void()>& poll);

  Record run();

 private:
  /// Messages that have yet to arrive, and the actor that sleeps until then.
  struct Pending {
    int messages = 0;
    s4u::SemaphorePtr none_left;  ///< while the actor sleeps
  };
  /// A step of a rank.
  struct Step {
    Pending waits;
    Pending posts;  ///< of the actor that begins with this step
  };
  /// A message on its way, with who counts it at its two ends.
  struct Transit {
    s4u::CommPtr send, receive;
    std::array<Pending*, 2> posts{}, waits{};
  };

  static void wait_for_none(Pending& pending);
  static void count_down(Pending& pending);

  /// SimGrid's clock runs on from one engine to the next.
  double now() const { return s4u::Engine::get_clock() - begin_; }

  void make_steps();
  void make_platform();
  void make_routes(s4u::NetZone* zone);
  double latency_of(const Script::Message& message) const;
  int end_of(Rank rank, int message) const {
    return script_.messages[message].from == rank ? 0 : 1;
  }

  bool stopped();

  void start(Rank rank, int step);
  void run(Rank rank, int step);
  void run_step(Rank rank, const Script::Step& script, Pending& posts);
  void wait_for_all(Rank rank, int step);
  void post(Rank rank, std::span<const int> messages, Pending& posts);
  void prepare(Rank rank, int message);
  void arrived(int message);
  void note_stuck_ranks();

  const Script& script_;
  const Platform& platform_;
  const std::function<void()>& poll_;
  std::exception_ptr stop_;  ///< thrown by poll_
  Record record_;
  double begin_ = 0;
  std::vector<s4u::Host*> hosts_;
  std::vector<s4u::Link*> links_;  ///< by capacity
  s4u::Mailbox* mailbox_ = nullptr;
  std::vector<Transit> transits_;         ///< by message
  std::vector<std::vector<Step>> steps_;  ///< [rank][step]
  int payload_ = 0;  ///< SimGrid wants something to pass on
  void* received_ = nullptr;
};

Simulation::Simulation(const Script& script, const Platform& platform,
                       const std::function<void()>& poll)
    : script_(script), platform_(platform), poll_(poll) {
  record_.messages.resize(script.messages.size());
  record_.tiles.resize(script.tile_seconds.size());
  record_.ends.assign(script.steps.size(), kNever);
  record_.stuck.assign(script.steps.size(), -1);
  make_steps();
}

void Simulation::make_steps() {
  transits_.resize(script_.messages.size());
  for (const auto& scripts : script_.steps) {
    const auto rank = static_cast<Rank>(steps_.size());
    auto& steps = steps_.emplace_back(scripts.size());
    for (std::size_t i = 0; i < scripts.size(); ++i) {
      Pending& waits = steps[i].waits;
      waits.messages = static_cast<int>(scripts[i].waits.size());
      for (const int message : scripts[i].waits) {
        transits_[message].waits[end_of(rank, message)] = &waits;
      }
    }
  }
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
  make_platform();
  for (Rank rank = 0; rank < static_cast<Rank>(hosts_.size()); ++rank) {
    if (!stopped() && !steps_[rank].empty()) start(rank, 0);
  }
  const TimeAdvance on_time_advance([this] {
    if (stopped()) s4u::Actor::kill_all();
  });
  engine.run();
  if (stop_) std::rethrow_exception(stop_);
  note_stuck_ranks();
  return std::move(record_);
}

void Simulation::make_platform() {
  s4u::NetZone* zone = s4u::create_full_zone("machine");
  for (std::size_t rank = 0; rank < script_.steps.size(); ++rank) {
    hosts_.push_back(zone->create_host(fmt::format("rank {}", rank), 1.0));
  }
  for (std::size_t i = 0; i < platform_.bytes_per_second.size(); ++i) {
    links_.push_back(zone->create_link(fmt::format("link {}", i),
                                       platform_.bytes_per_second[i]));
  }
  make_routes(zone);
  zone->seal();
  for (const Platform::Failure& failure : platform_.failures) {
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
  mailbox_ = s4u::Mailbox::by_name("messages");
  std::map<Ends, double> latencies;
  const std::size_t ranks = hosts_.size();
  std::vector<bool> done(ranks * ranks);
  for (const Script::Message& message : script_.messages) {
    if (stopped()) return;
    s4u::Host* from = hosts_[message.from];
    s4u::Host* to = hosts_[message.to];
    const std::size_t pair = message.from * ranks + message.to;
    if (done[pair]) continue;
    done[pair] = true;
    const double latency = latency_of(message);
    std::vector<s4u::LinkInRoute> route;
    if (latency > 0) {
      latencies[{from, to}] = latency;
      const std::string name =
          fmt::format("rank {} to rank {}", message.from, message.to);
      route.emplace_back(zone->create_link(name, kUnlimited)->set_latency(1.0));
    }
    for (const int link : *message.route) {
      route.emplace_back(links_[platform_.capacity[link]]);
    }
    zone->add_route(from->get_netpoint(), to->get_netpoint(), nullptr, nullptr,
                    route, false);
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
    seconds += platform_.latency_seconds[link];
  }
  return seconds;
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

void Simulation::start(Rank rank, int step) {
  s4u::Actor::create("rank", hosts_[rank],
                     [this, rank, step] { run(rank, step); });
}

/// SimGrid keeps all that an actor has posted until it ends, and ends what is
/// still under way then. With one actor per rank, memory would grow, and time
/// by a third: after some posts it leaves the rest to another, and stays until
/// what it posted has arrived.
void Simulation::run(Rank rank, int step) {
  const auto& scripts = script_.steps[rank];
  Pending& posts = steps_[rank][step].posts;
  std::size_t posted = 0;
  for (; step < static_cast<int>(scripts.size()); ++step) {
    if (posted >= kPostsPerActor) {
      start(rank, step);
      return wait_for_none(posts);
    }
    wait_for_all(rank, step);
    if (stopped()) return;
    run_step(rank, scripts[step], posts);
    posted += scripts[step].receives.size() + scripts[step].sends.size();
  }
  record_.ends[rank] = now();
}

void Simulation::run_step(Rank rank, const Script::Step& script,
                          Pending& posts) {
  post(rank, script.receives, posts);
  if (script_.message_overhead_seconds == 0) {
    post(rank, script.sends, posts);
  } else {
    for (const int message : script.sends) {
      sleep(script_.message_overhead_seconds);
      post(rank, std::span(&message, 1), posts);
    }
  }
  for (const int tile : script.tiles) {
    record_.tiles[tile].start_seconds = now();
    sleep(script_.tile_seconds[tile]);
    record_.tiles[tile].end_seconds = now();
  }
}

/// Does not return if one of them never arrives.
void Simulation::wait_for_all(Rank rank, int step) {
  const double start = now();
  wait_for_none(steps_[rank][step].waits);
  const double end = now();
  if (end > start) record_.waits.push_back({rank, step, start, end});
}

/// Cheaper than SimGrid's wait for each message. Not suspend(), which would
/// stop the actor's messages as well.
void Simulation::wait_for_none(Pending& pending) {
  if (pending.messages == 0) return;
  pending.none_left = s4u::Semaphore::create(0);
  pending.none_left->acquire();
  pending.none_left.reset();
}

void Simulation::count_down(Pending& pending) {
  if (--pending.messages == 0 && pending.none_left) {
    pending.none_left->release();
  }
}

/// Starts the messages that the other end has posted before, all in one call of
/// SimGrid's kernel: with one for each, actors would take turns message by
/// message. So a put finds its get, and one mailbox serves all.
void Simulation::post(Rank rank, std::span<const int> messages,
                      Pending& posts) {
  std::vector<Transit*> ready;
  posts.messages += static_cast<int>(messages.size());
  for (const int message : messages) {
    prepare(rank, message);
    Transit& transit = transits_[message];
    transit.posts[end_of(rank, message)] = &posts;
    if (transit.send && transit.receive) ready.push_back(&transit);
  }
  simgrid::kernel::actor::simcall_answered([&ready] {
    for (const Transit* transit : ready) {
      transit->send->start();
      transit->receive->start();
    }
  });
}

void Simulation::prepare(Rank rank, int index) {
  const Script::Message& message = script_.messages[index];
  Record::Message& times = record_.messages[index];
  Transit& transit = transits_[index];
  const auto on_arrival = [this, index](simgrid::kernel::activity::CommImpl*,
                                        void*, size_t) { arrived(index); };
  if (message.from == rank) {
    times.send_seconds = now();
    transit.send = mailbox_->put_init(&payload_, message.bytes)
                       ->set_copy_data_callback(on_arrival);
  } else {
    times.receive_seconds = now();
    transit.receive = mailbox_->get_init()
                          ->set_dst_data(&received_, sizeof(received_))
                          ->set_copy_data_callback(on_arrival);
  }
}

/// SimGrid calls it, in no actor, of a message that no link's failure has
/// ended.
void Simulation::arrived(int message) {
  record_.messages[message].end_seconds = now();
  Transit& transit = transits_[message];
  for (Pending* pending : transit.posts) count_down(*pending);
  for (Pending* pending : transit.waits) count_down(*pending);
  transit.send.reset();
  transit.receive.reset();
}

void Simulation::note_stuck_ranks() {
  for (std::size_t rank = 0; rank < steps_.size(); ++rank) {
    const auto step =
        std::ranges::find_if(steps_[rank], [](const Step& candidate) {
          return candidate.waits.none_left != nullptr;
        });
    if (step == steps_[rank].end()) continue;
    const auto& waits = script_.steps[rank][step - steps_[rank].begin()].waits;
    record_.stuck[rank] = *std::ranges::find_if(waits, [&](int message) {
      return record_.messages[message].end_seconds == kNever;
    });
  }
}

}  // namespace

Record play(const Script& script, const Platform& platform,
            const std::function<void()>& poll) {
  static std::mutex one_engine;
  const std::lock_guard lock(one_engine);
  return Simulation(script, platform, poll).run();
}

}  // namespace ringweave::sim
