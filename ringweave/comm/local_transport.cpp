#include "ringweave/comm/local_transport.h"

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/device/ordering.h"

namespace ringweave::comm {
namespace {

/// Between two looks whether a device has copied.
constexpr std::chrono::microseconds kPoll{20};

/// A batch whose bytes are copied tells the peers after this many, so that none
/// waits for the copies of others.
constexpr std::size_t kPublishBytes = 64 * 1024;

using device::OrderingCall;
using device::SharedMark;

class LocalWork;

/// What one rank posted to another, or wants from it, that the other has not
/// posted yet: all sends or all receives, linked in their order.
struct Mailbox {
  LocalWork* first = nullptr;
  LocalWork* last = nullptr;
  std::string broken;  ///< why nothing goes through any more
};

}  // namespace

/// Everything is guarded by `mutex`, except the two sides of a message that is
/// being copied: they belong to the thread that copies.
struct LocalWorld::State {
  /// Memory that a copy on a device may still use, and the mark behind it.
  struct InUse {
    Buffer buffer;
    SharedMark copied;
  };

  struct RankState {
    std::condition_variable changed;
    const LocalWork* waited = nullptr;
    bool ended = false;
  };

  explicit State(int ranks) : rank_states(ranks), boxes(ranks * ranks) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    for (const InUse& it : in_use) it.copied->wait();
  }

  int ranks() const { return static_cast<int>(rank_states.size()); }
  Mailbox& box(Rank from, Rank to) { return boxes[from * ranks() + to]; }
  void wake_all() {
    for (RankState& state : rank_states) state.changed.notify_all();
  }
  void mark(Rank rank) {
    if (failed) return;
    failed = rank;
    wake_all();
  }
  Rank culprit(Rank peer) const;
  std::shared_ptr<device::CopyLane> lane(Rank from, const Device& source,
                                         Rank to, const Device& target);
  void keep(InUse memory);

  std::mutex mutex;
  std::vector<RankState> rank_states;
  std::vector<Mailbox> boxes;  ///< [from * ranks + to]
  std::optional<Rank> failed;
  /// One per pair of ranks, direction and devices: with streams that several
  /// share, a message would wait for others.
  std::map<std::tuple<Rank, Rank, int, int>, std::shared_ptr<device::CopyLane>>
      lanes;
  std::vector<InUse> in_use;
};

namespace {

using State = LocalWorld::State;

/// One side of a message. The other side is known from the match to the end of
/// the copy; only the poster of the second side knows it.
class LocalWork final : public Work {
 public:
  /// `ready`: behind it the bytes of a send are there, or those of a receive
  /// may be written. Null in the host's memory.
  LocalWork(std::shared_ptr<State> world, Rank rank, Rank peer, bool sends,
            Buffer buffer, SharedMark ready)
      : world_(std::move(world)),
        buffer_(std::move(buffer)),
        ready_(std::move(ready)),
        rank_(rank),
        peer_(peer),
        sends_(sends) {}
  LocalWork(const LocalWork&) = delete;
  LocalWork& operator=(const LocalWork&) = delete;
  ~LocalWork() override;

  void wait(Clock::time_point deadline) override;
  void block(const Stream& stream, Clock::time_point deadline) override;

  /// Finds the other side, or queues up for it. Under the lock.
  void post();
  /// Bytes copied; 0 unless this side came second. Without the lock.
  std::size_t copy();
  /// After copy(), under the lock: both sides are done.
  void publish();
  Rank peer() const { return peer_; }
  /// Behind it the message is copied; null in the host's memory. Once its wait
  /// or block has returned.
  const SharedMark& copied() const { return copied_; }

 private:
  enum class Progress { posted, copying, done, broken };

  Mailbox& box() {
    return sends_ ? world_->box(rank_, peer_) : world_->box(peer_, rank_);
  }
  static std::string mismatch(const LocalWork& sender,
                              const LocalWork& receiver);
  void finish(Progress progress);
  void break_off(const std::string& cause);
  void withdraw(Mailbox& box);
  void check(Clock::time_point start, Clock::time_point deadline);
  void wait_until_done(Clock::time_point deadline);
  void copy_on_device(LocalWork& sender, LocalWork& receiver);
  CommError error(std::string cause) const {
    return CommError({.rank = rank_,
                      .peer = peer_,
                      .operation = sends_ ? "send" : "receive",
                      .cause = std::move(cause),
                      .first_failed = world_->failed.value_or(-1)});
  }

  const std::shared_ptr<State> world_;
  const Buffer buffer_;
  const SharedMark ready_;
  const Rank rank_;
  const Rank peer_;
  const bool sends_;
  /// Written under the lock. Whoever reads `done` without it may free the work.
  std::atomic<Progress> progress_ = Progress::posted;
  LocalWork* next_ = nullptr;   ///< in the mailbox
  LocalWork* other_ = nullptr;  ///< at the poster of the second side
  std::string cause_;           ///< why it is broken
  SharedMark copied_;
  bool ordered_ = false;  ///< what uses the buffer next is behind the copy
};

/// The last use of this side by the thread of the other one: its own thread may
/// destroy it as soon as it is done.
void LocalWork::finish(Progress progress) {
  State::RankState& self = world_->rank_states[rank_];
  const bool waited = self.waited == this;
  progress_.store(progress, std::memory_order_release);
  if (waited) self.changed.notify_all();
}

void LocalWork::break_off(const std::string& cause) {
  cause_ = cause;
  finish(Progress::broken);
}

/// Why a send and a receive don't belong together; empty: they do.
std::string LocalWork::mismatch(const LocalWork& sender,
                                const LocalWork& receiver) {
  if (sender.buffer_.size != receiver.buffer_.size) {
    return fmt::format("rank {} sent {} bytes, rank {} wants {}", sender.rank_,
                       sender.buffer_.size, receiver.rank_,
                       receiver.buffer_.size);
  }
  const auto memory = [](const LocalWork& side) -> std::string_view {
    return side.buffer_.device.is_host() ? "host" : "device";
  };
  if (memory(sender) == memory(receiver)) return "";
  return fmt::format("rank {} sent {} memory, rank {} wants {} memory",
                     sender.rank_, memory(sender), receiver.rank_,
                     memory(receiver));
}

void LocalWork::post() {
  Mailbox& box = this->box();
  LocalWork* other =
      box.first && box.first->sends_ != sends_ ? box.first : nullptr;
  if (other) {
    box.first = other->next_;
    if (box.broken.empty()) {
      box.broken = sends_ ? mismatch(*this, *other) : mismatch(*other, *this);
    }
  }
  if (!box.broken.empty()) {
    break_off(box.broken);
    if (other) other->break_off(box.broken);
  } else if (other) {
    other_ = other;
    progress_ = other->progress_ = Progress::copying;
  } else {
    (box.first ? box.last->next_ : box.first) = this;
    box.last = this;
  }
}

std::size_t LocalWork::copy() {
  if (!other_) return 0;
  LocalWork& sender = sends_ ? *this : *other_;
  LocalWork& receiver = sends_ ? *other_ : *this;
  if (buffer_.device.is_host()) {
    std::memcpy(receiver.buffer_.data, sender.buffer_.data, buffer_.size);
  } else {
    copy_on_device(sender, receiver);
  }
  return buffer_.size;
}

/// An error of the device breaks the message: both sides learn of it.
void LocalWork::copy_on_device(LocalWork& sender, LocalWork& receiver) {
  try {
    const auto lane = world_->lane(sender.rank_, sender.buffer_.device,
                                   receiver.rank_, receiver.buffer_.device);
    sender.copied_ = receiver.copied_ = lane->copy(
        sender.buffer_, *sender.ready_, receiver.buffer_, *receiver.ready_);
  } catch (const std::exception& error) {
    cause_ = error.what();
  }
}

void LocalWork::publish() {
  if (!other_) return;
  LocalWork& other = *std::exchange(other_, nullptr);
  if (cause_.empty()) {
    other.finish(Progress::done);
    finish(Progress::done);
  } else {
    other.break_off(cause_);
    finish(Progress::broken);
  }
}

void LocalWork::withdraw(Mailbox& box) {
  LocalWork* before = nullptr;
  for (LocalWork* at = box.first; at; before = at, at = at->next_) {
    if (at != this) continue;
    (before ? before->next_ : box.first) = next_;
    if (box.last == this) box.last = before;
    return;
  }
}

/// An unfinished message is taken out of the world, so that nobody uses the
/// buffer of this side after it is freed.
LocalWork::~LocalWork() {
  if (progress_.load(std::memory_order_acquire) == Progress::done) {
    if (copied_ && !ordered_) world_->keep({buffer_, copied_});
    return;
  }
  std::unique_lock lock(world_->mutex);
  State::RankState& self = world_->rank_states[rank_];
  self.waited = this;
  self.changed.wait(lock, [&] { return progress_ != Progress::copying; });
  self.waited = nullptr;
  if (progress_ != Progress::posted) return;
  Mailbox& box = this->box();
  if (box.broken.empty()) box.broken = fmt::format("rank {} gave up", rank_);
  withdraw(box);
}

void LocalWork::wait(Clock::time_point deadline) {
  const auto start = Clock::now();
  wait_until_done(deadline);
  if (!copied_) return;
  while (device::is_made(OrderingCall::host_behind_copy) &&
         !copied_->passed()) {
    if (Clock::now() >= deadline) throw error(no_answer_since(start));
    std::this_thread::sleep_for(kPoll);
  }
  ordered_ = true;
}

void LocalWork::block(const Stream& stream, Clock::time_point deadline) {
  wait_until_done(deadline);
  if (!copied_) return;
  device::block(*copied_, stream,
                sends_ ? OrderingCall::sender_behind_copy
                       : OrderingCall::receiver_behind_copy);
  ordered_ = true;
}

void LocalWork::wait_until_done(Clock::time_point deadline) {
  if (progress_.load(std::memory_order_acquire) == Progress::done) return;
  std::unique_lock lock(world_->mutex);
  State::RankState& self = world_->rank_states[rank_];
  const auto start = Clock::now();
  while (progress_ != Progress::done) {
    const bool copying = progress_ == Progress::copying;
    if (!copying) check(start, deadline);
    self.waited = this;
    if (copying) {
      self.changed.wait(lock);
    } else {
      self.changed.wait_until(lock, deadline);
    }
    self.waited = nullptr;
  }
}

/// Throws if the message can't be waited for any longer.
void LocalWork::check(Clock::time_point start, Clock::time_point deadline) {
  if (progress_ == Progress::broken) throw error(cause_);
  if (world_->failed) {
    throw error(fmt::format("rank {} failed", *world_->failed));
  }
  if (world_->rank_states[peer_].ended) {
    throw error(fmt::format("rank {} has ended", peer_));
  }
  if (Clock::now() >= deadline) {
    world_->mark(world_->culprit(peer_));
    throw error(no_answer_since(start));
  }
}

class LocalTransport final : public Transport {
 public:
  LocalTransport(std::shared_ptr<State> world, Rank rank)
      : world_(std::move(world)), rank_(rank) {}

  Rank rank() const override { return rank_; }
  int size() const override { return world_->ranks(); }
  Works post(const Batch& batch, const Stream& stream) override;
  bool carries(const Device&) const override { return true; }
  void mark_failed(Rank rank) override {
    const std::lock_guard lock(world_->mutex);
    world_->mark(rank);
  }
  std::optional<Rank> first_failed() override {
    const std::lock_guard lock(world_->mutex);
    return world_->failed;
  }
  void ended() override {
    const std::lock_guard lock(world_->mutex);
    world_->rank_states[rank_].ended = true;
    world_->wake_all();
  }

 private:
  const std::shared_ptr<State> world_;
  const Rank rank_;
};

/// Of a send that passes on what a receive brought: it need not wait for what
/// else the stream holds.
SharedMark forwarded(const Work* receive, const SharedMark& ready) {
  if (!ready) return nullptr;  // in the host's memory
  const auto* own = dynamic_cast<const LocalWork*>(receive);
  return own && own->copied() ? own->copied() : ready;
}

LocalWork& local(const std::unique_ptr<Work>& work) {
  return static_cast<LocalWork&>(*work);
}

/// One lock to match the batch, and one to say that it is copied.
Works LocalTransport::post(const Batch& batch, const Stream& stream) {
  check_batch(batch, rank_, size());
  const SharedMark now = device::mark(stream);
  const auto ready = [&](const Buffer& buffer) -> const SharedMark& {
    ensure(buffer.device == stream.device,
           "a message in the memory of another device than the stream's");
    return now;
  };
  Works works;
  works.reserve(batch.size());
  for (const auto& [from, buffer] : batch.receives) {
    works.push_back(std::make_unique<LocalWork>(world_, rank_, from, false,
                                                buffer, ready(buffer)));
  }
  for (const auto& [to, buffer, forwards] : batch.sends) {
    works.push_back(std::make_unique<LocalWork>(
        world_, rank_, to, true, buffer, forwarded(forwards, ready(buffer))));
  }
  {
    const std::lock_guard lock(world_->mutex);
    for (const auto& work : works) local(work).post();
  }
  std::size_t copied = 0;
  auto first = works.begin();
  for (auto at = works.begin(); at != works.end(); ++at) {
    copied += local(*at).copy();
    if (copied < kPublishBytes && at + 1 != works.end()) continue;
    if (copied > 0) {
      const std::lock_guard lock(world_->mutex);
      for (auto done = first; done <= at; ++done) local(*done).publish();
    }
    first = at + 1;
    copied = 0;
  }
  return works;
}

}  // namespace

/// `peer` did not answer in time: it may only be waiting for another itself.
Rank LocalWorld::State::culprit(Rank peer) const {
  std::set<Rank> seen;
  Rank rank = peer;
  while (const LocalWork* waited = rank_states[rank].waited) {
    if (!seen.insert(rank).second) return peer;
    rank = waited->peer();
  }
  return rank;
}

std::shared_ptr<device::CopyLane> LocalWorld::State::lane(
    Rank from, const Device& source, Rank to, const Device& target) {
  const std::lock_guard lock(mutex);
  auto& lane = lanes[{from, to, source.index, target.index}];
  if (!lane) lane = source.accelerator->lane(source, target);
  return lane;
}

/// A message is given up while the device copies it.
void LocalWorld::State::keep(InUse memory) {
  if (!device::is_made(OrderingCall::memory_behind_copy)) return;
  const std::lock_guard lock(mutex);
  std::erase_if(in_use, [](const InUse& it) { return it.copied->passed(); });
  in_use.push_back(std::move(memory));
}

LocalWorld::LocalWorld(int ranks) {
  require(ranks >= 1 && ranks <= kMaxLocalRanks,
          "[local] got {} ranks; want 1 … {}, since each is a thread", ranks,
          kMaxLocalRanks);
  state_ = std::make_shared<State>(ranks);
}

std::shared_ptr<Transport> LocalWorld::transport(Rank rank) const {
  require(rank >= 0 && rank < state_->ranks(),
          "[local] got rank {}; want 0 … {}", rank, state_->ranks() - 1);
  return std::make_shared<LocalTransport>(state_, rank);
}

Transports LocalWorld::transports() const {
  Transports all;
  for (Rank rank = 0; rank < state_->ranks(); ++rank) {
    all.push_back(transport(rank));
  }
  return all;
}

}  // namespace ringweave::comm
