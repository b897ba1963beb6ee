#include "ringweave/comm/local_transport.h"

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <set>
#include <utility>

#include "ringweave/base/error.h"

namespace ringweave::comm {
namespace {

/// A batch whose bytes are copied tells the peers after this many, so that none
/// waits for the copies of others.
constexpr std::size_t kPublishBytes = 64 * 1024;

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
  struct RankState {
    std::condition_variable changed;
    const LocalWork* waited = nullptr;
    bool ended = false;
  };

  explicit State(int ranks) : rank_states(ranks), boxes(ranks * ranks) {}

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

  std::mutex mutex;
  std::vector<RankState> rank_states;
  std::vector<Mailbox> boxes;  ///< [from * ranks + to]
  std::optional<Rank> failed;
};

namespace {

using State = LocalWorld::State;

/// One side of a message. The other side is known from the match to the end of
/// the copy; only the poster of the second side knows it.
class LocalWork final : public Work {
 public:
  LocalWork(std::shared_ptr<State> world, Rank rank, Rank peer, bool sends,
            Buffer buffer)
      : world_(std::move(world)),
        buffer_(std::move(buffer)),
        rank_(rank),
        peer_(peer),
        sends_(sends) {}
  LocalWork(const LocalWork&) = delete;
  LocalWork& operator=(const LocalWork&) = delete;
  ~LocalWork() override;

  void wait(Clock::time_point deadline) override;

  /// Finds the other side, or queues up for it. Under the lock.
  void post();
  /// Bytes copied; 0 unless this side came second. Without the lock.
  std::size_t copy();
  /// After copy(), under the lock: both sides are done.
  void publish();
  Rank peer() const { return peer_; }

 private:
  enum class Progress { posted, copying, done, broken };

  Mailbox& box() {
    return sends_ ? world_->box(rank_, peer_) : world_->box(peer_, rank_);
  }
  void finish(Progress progress);
  void break_off(const std::string& cause);
  void withdraw(Mailbox& box);
  void check(Clock::time_point start, Clock::time_point deadline);
  CommError error(std::string cause) const {
    return CommError({.rank = rank_,
                      .peer = peer_,
                      .operation = sends_ ? "send" : "receive",
                      .cause = std::move(cause),
                      .first_failed = world_->failed.value_or(-1)});
  }

  const std::shared_ptr<State> world_;
  const Buffer buffer_;
  const Rank rank_;
  const Rank peer_;
  const bool sends_;
  /// Written under the lock. Whoever reads `done` without it may free the work.
  std::atomic<Progress> progress_ = Progress::posted;
  LocalWork* next_ = nullptr;   ///< in the mailbox
  LocalWork* other_ = nullptr;  ///< at the poster of the second side
  std::string cause_;           ///< why it is broken
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

void LocalWork::post() {
  Mailbox& box = this->box();
  LocalWork* other =
      box.first && box.first->sends_ != sends_ ? box.first : nullptr;
  if (other) {
    box.first = other->next_;
    if (other->buffer_.size != buffer_.size && box.broken.empty()) {
      const LocalWork& sender = sends_ ? *this : *other;
      const LocalWork& receiver = sends_ ? *other : *this;
      box.broken = fmt::format("rank {} sent {} bytes, rank {} wants {}",
                               sender.rank_, sender.buffer_.size,
                               receiver.rank_, receiver.buffer_.size);
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
  const LocalWork& sender = sends_ ? *this : *other_;
  const LocalWork& receiver = sends_ ? *other_ : *this;
  std::memcpy(receiver.buffer_.data, sender.buffer_.data, buffer_.size);
  return buffer_.size;
}

void LocalWork::publish() {
  if (!other_) return;
  std::exchange(other_, nullptr)->finish(Progress::done);
  finish(Progress::done);
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
  if (progress_.load(std::memory_order_acquire) == Progress::done) return;
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

LocalWork& local(const std::unique_ptr<Work>& work) {
  return static_cast<LocalWork&>(*work);
}

/// One lock to match the batch, and one to say that it is copied.
Works LocalTransport::post(const Batch& batch, const Stream&) {
  check_batch(batch, rank_, size());
  Works works;
  works.reserve(batch.size());
  for (const auto& [from, buffer] : batch.receives) {
    works.push_back(
        std::make_unique<LocalWork>(world_, rank_, from, false, buffer));
  }
  for (const auto& [to, buffer, forwards] : batch.sends) {
    works.push_back(
        std::make_unique<LocalWork>(world_, rank_, to, true, buffer));
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
