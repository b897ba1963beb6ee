#include "ringweave/comm/local_transport.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <random>
#include <set>
#include <utility>

#include "ringweave/comm/link_model.h"

namespace ringweave::comm {
namespace {

/// A message that at least one side has posted.
struct Message {
  enum class State { posted, matched, copying, done, broken };

  Rank from = -1;
  Rank to = -1;
  const std::byte* source = nullptr;  ///< null: not posted yet
  std::byte* target = nullptr;        ///< null: not posted yet
  std::size_t sent = 0;
  std::size_t wanted = 0;
  State state = State::posted;
  Clock::time_point due;  ///< once matched: when it may be delivered
  int number = -1;        ///< once matched: in the world's link model
  std::string cause;      ///< why it is broken
};

/// From one rank to another.
struct Mailbox {
  std::deque<std::shared_ptr<Message>> unmatched;  ///< all of the same side
  Clock::time_point last_due;
  std::string broken;  ///< why nothing goes through any more
  std::minstd_rand random;
};

}  // namespace

/// Everything is guarded by `mutex`, except the bytes of a message whose state
/// is copying: they belong to the thread that set it.
struct LocalWorld::State {
  struct RankState {
    std::condition_variable changed;
    std::int64_t operations = 0;
    const Message* waited = nullptr;
    bool ended = false;
  };

  State(int ranks, FaultInjection injected)
      : faults(std::move(injected)), rank_states(ranks), boxes(ranks * ranks) {
    if (faults.links) links.emplace(*faults.links);
    for (std::size_t i = 0; i < boxes.size(); ++i) {
      std::seed_seq seeds{faults.seed, static_cast<std::uint64_t>(i)};
      boxes[i].random.seed(seeds);
    }
  }

  int ranks() const { return static_cast<int>(rank_states.size()); }
  Mailbox& box(Rank from, Rank to) { return boxes[from * ranks() + to]; }
  void wake_all() {
    for (RankState& state : rank_states) state.changed.notify_all();
  }
  void wake_sides(const Message& message) {
    rank_states[message.from].changed.notify_all();
    rank_states[message.to].changed.notify_all();
  }
  void mark(Rank rank) {
    if (failed) return;
    failed = rank;
    wake_all();
  }
  void break_message(Message& message, std::string cause) {
    message.state = Message::State::broken;
    message.cause = std::move(cause);
    wake_sides(message);
  }
  /// `peer` did not answer in time: it may only be waiting for another itself.
  Rank culprit(Rank peer) const {
    std::set<Rank> seen;
    Rank rank = peer;
    while (const Message* waited = rank_states[rank].waited) {
      if (!seen.insert(rank).second) return peer;
      rank = waited->from == rank ? waited->to : waited->from;
    }
    return rank;
  }
  Clock::time_point due(Mailbox& box);
  bool may_deliver(const Message& message) const {
    return links ? links->arrived(message.number) : Clock::now() >= message.due;
  }
  void pass_time();
  void inject(std::unique_lock<std::mutex>& lock, Rank rank);
  void copy(std::unique_lock<std::mutex>& lock, Message& message);

  std::mutex mutex;
  const FaultInjection faults;
  std::optional<LinkModel> links;
  std::vector<RankState> rank_states;
  std::vector<Mailbox> boxes;  ///< [from * ranks + to]
  std::optional<Rank> failed;
};

/// When the next message of `box`, matched now, is to be delivered.
Clock::time_point LocalWorld::State::due(Mailbox& box) {
  if (faults.max_delay.count() <= 0) return {};
  std::uniform_int_distribution<std::int64_t> delay(0,
                                                    faults.max_delay.count());
  box.last_due =
      std::max(box.last_due,
               Clock::now() + std::chrono::microseconds(delay(box.random)));
  return box.last_due;
}

/// With a link model: once every rank waits, time passes until one need not.
void LocalWorld::State::pass_time() {
  if (!links) return;
  const auto stuck = [&](const RankState& rank) {
    if (!rank.waited) return rank.ended;
    return rank.waited->state == Message::State::posted ||
           (rank.waited->state == Message::State::matched &&
            !may_deliver(*rank.waited));
  };
  bool passed = false;
  while (std::ranges::all_of(rank_states, stuck) && links->advance()) {
    passed = true;
  }
  if (passed) wake_all();
}

/// Counts a call of `rank`; kills or stalls it if it is time.
void LocalWorld::State::inject(std::unique_lock<std::mutex>& lock, Rank rank) {
  const std::int64_t operation = rank_states[rank].operations++;
  const auto hits = [&](const std::optional<FaultInjection::At>& at) {
    return at && at->rank == rank && at->operation == operation;
  };
  if (hits(faults.kill)) {
    mark(rank);
    throw InjectedFault(fmt::format(
        "[local] rank {} was killed at operation {}", rank, operation));
  }
  if (hits(faults.stall)) {
    rank_states[rank].changed.wait(lock, [&] {
      for (Rank other = 0; other < ranks(); ++other) {
        if (other != rank && !rank_states[other].ended) return false;
      }
      return true;
    });
    throw InjectedFault(fmt::format(
        "[local] rank {} was stalled at operation {}", rank, operation));
  }
}

void LocalWorld::State::copy(std::unique_lock<std::mutex>& lock,
                             Message& message) {
  message.state = Message::State::copying;
  lock.unlock();
  std::memcpy(message.target, message.source, message.sent);
  lock.lock();
  message.state = Message::State::done;
  wake_sides(message);
}

namespace {

using State = LocalWorld::State;

class LocalWork final : public Work {
 public:
  LocalWork(std::shared_ptr<State> world, Rank rank)
      : world_(std::move(world)), rank_(rank) {}
  LocalWork(const LocalWork&) = delete;
  LocalWork& operator=(const LocalWork&) = delete;
  ~LocalWork() override;

  /// To be called once, by who holds the lock. The message is withdrawn when
  /// this is destroyed.
  void own(std::shared_ptr<Message> message) { message_ = std::move(message); }
  void wait(Clock::time_point deadline) override;

 private:
  bool is_sender() const { return rank_ == message_->from; }
  Rank peer() const { return is_sender() ? message_->to : message_->from; }
  void check(Clock::time_point start, Clock::time_point now,
             Clock::time_point deadline);
  CommError error(std::string cause) const {
    return CommError({.rank = rank_,
                      .peer = peer(),
                      .operation = is_sender() ? "send" : "receive",
                      .cause = std::move(cause),
                      .first_failed = world_->failed.value_or(-1)});
  }

  std::shared_ptr<State> world_;
  std::shared_ptr<Message> message_;
  const Rank rank_;
};

/// An unfinished message is taken out of the world, so that nobody uses the
/// buffer of this side after it is freed.
LocalWork::~LocalWork() {
  if (!message_) return;
  std::unique_lock lock(world_->mutex);
  Message& message = *message_;
  world_->rank_states[rank_].changed.wait(
      lock, [&] { return message.state != Message::State::copying; });
  if (message.state == Message::State::done ||
      message.state == Message::State::broken) {
    return;
  }
  const std::string cause = fmt::format("rank {} gave up", rank_);
  Mailbox& box = world_->box(message.from, message.to);
  if (box.broken.empty()) box.broken = cause;
  std::erase(box.unmatched, message_);
  world_->break_message(message, cause);
}

void LocalWork::wait(Clock::time_point deadline) {
  std::unique_lock lock(world_->mutex);
  world_->inject(lock, rank_);
  Message& message = *message_;
  State::RankState& self = world_->rank_states[rank_];
  const auto start = Clock::now();
  while (message.state != Message::State::done) {
    Clock::time_point until = deadline;
    if (message.state != Message::State::copying) {
      const auto now = Clock::now();
      check(start, now, deadline);
      if (message.state == Message::State::matched) {
        if (world_->may_deliver(message)) {
          world_->copy(lock, message);
          continue;
        }
        if (!world_->links) until = std::min(until, message.due);
      }
    }
    self.waited = &message;
    world_->pass_time();
    if (message.state == Message::State::copying) {
      self.changed.wait(lock);
    } else if (message.state != Message::State::matched ||
               !world_->may_deliver(message)) {
      self.changed.wait_until(lock, until);
    }
    self.waited = nullptr;
  }
}

/// Throws if the message can't be waited for any longer.
void LocalWork::check(Clock::time_point start, Clock::time_point now,
                      Clock::time_point deadline) {
  Message& message = *message_;
  if (message.state == Message::State::broken) throw error(message.cause);
  if (world_->failed) {
    throw error(fmt::format("rank {} failed", *world_->failed));
  }
  if (message.state == Message::State::posted &&
      world_->rank_states[peer()].ended) {
    throw error(fmt::format("rank {} has ended", peer()));
  }
  if (now >= deadline) {
    world_->mark(world_->culprit(peer()));
    const std::chrono::duration<double> waited = now - start;
    throw error(fmt::format("no answer within {:.3g} s", waited.count()));
  }
}

class LocalTransport final : public Transport {
 public:
  LocalTransport(std::shared_ptr<State> world, Rank rank)
      : world_(std::move(world)), rank_(rank) {}

  Rank rank() const override { return rank_; }
  int size() const override { return world_->ranks(); }
  std::unique_ptr<Work> send(Rank to,
                             std::span<const std::byte> bytes) override {
    return post(rank_, to, bytes.data(), nullptr, bytes.size());
  }
  std::unique_ptr<Work> receive(Rank from,
                                std::span<std::byte> bytes) override {
    return post(from, rank_, nullptr, bytes.data(), bytes.size());
  }
  void mark_failed(Rank rank) override {
    const std::lock_guard lock(world_->mutex);
    world_->mark(rank);
  }
  std::optional<Rank> first_failed() override {
    const std::lock_guard lock(world_->mutex);
    return world_->failed;
  }
  double seconds() const override {
    if (!world_->links) return Transport::seconds();
    const std::lock_guard lock(world_->mutex);
    return world_->links->seconds();
  }

 private:
  std::unique_ptr<Work> post(Rank from, Rank to, const std::byte* source,
                             std::byte* target, std::size_t bytes);

  std::shared_ptr<State> world_;
  const Rank rank_;
};

/// Exactly one of `source` and `target` is given.
std::unique_ptr<Work> LocalTransport::post(Rank from, Rank to,
                                           const std::byte* source,
                                           std::byte* target,
                                           std::size_t bytes) {
  ensure(from >= 0 && from < size() && to >= 0 && to < size() && from != to,
         "a message from rank {} to rank {} of {}", from, to, size());
  ensure(bytes > 0, "an empty message from rank {} to rank {}", from, to);
  auto work = std::make_unique<LocalWork>(world_, rank_);
  std::unique_lock lock(world_->mutex);
  world_->inject(lock, rank_);
  if (target && world_->faults.max_delay.count() > 0) {
    std::memset(target, 0xff, bytes);
  }
  Mailbox& box = world_->box(from, to);
  const bool second =
      !box.unmatched.empty() && (source ? !box.unmatched.front()->source
                                        : !box.unmatched.front()->target);
  const std::shared_ptr<Message> message =
      second ? box.unmatched.front() : std::make_shared<Message>();
  if (second) {
    box.unmatched.pop_front();
  } else {
    message->from = from;
    message->to = to;
    if (box.broken.empty()) box.unmatched.push_back(message);
  }
  work->own(message);
  if (source) {
    message->source = source;
    message->sent = bytes;
  } else {
    message->target = target;
    message->wanted = bytes;
  }
  if (!box.broken.empty()) {
    world_->break_message(*message, box.broken);
  } else if (second && message->sent != message->wanted) {
    box.broken = fmt::format("rank {} sent {} bytes, rank {} wants {}", from,
                             message->sent, to, message->wanted);
    world_->break_message(*message, box.broken);
  } else if (second) {
    message->state = Message::State::matched;
    if (world_->links) {
      message->number =
          world_->links->start(from, to, static_cast<std::int64_t>(bytes));
    } else {
      message->due = world_->due(box);
      if (message->due == Clock::time_point{}) world_->copy(lock, *message);
    }
  }
  return work;
}

}  // namespace

LocalWorld::LocalWorld(int ranks, FaultInjection faults) {
  require(ranks >= 1 && ranks <= kMaxLocalRanks,
          "[local] got {} ranks; want 1 … {}, since each is a thread", ranks,
          kMaxLocalRanks);
  require(!faults.links || faults.links->ranks() == ranks,
          "[local] got a topology of {} ranks for {}; want as many",
          faults.links ? faults.links->ranks() : 0, ranks);
  require(!faults.links || faults.max_delay.count() == 0,
          "[local] got random delays and links with their own; want one");
  state_ = std::make_shared<State>(ranks, std::move(faults));
}

std::shared_ptr<Transport> LocalWorld::transport(Rank rank) const {
  require(rank >= 0 && rank < state_->ranks(),
          "[local] got rank {}; want 0 … {}", rank, state_->ranks() - 1);
  return std::make_shared<LocalTransport>(state_, rank);
}

void LocalWorld::ended(Rank rank) const {
  const std::lock_guard lock(state_->mutex);
  state_->rank_states[rank].ended = true;
  state_->pass_time();
  state_->wake_all();
}

}  // namespace ringweave::comm
