#include "ringweave/comm/holding.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/comm/transport_decorator.h"

namespace ringweave::comm {

/// What one rank posted of a message.
struct Holding::Side {
  Rank rank = -1;
  Rank peer = -1;
  bool sends = false;
  Buffer buffer;
  std::shared_ptr<Message> message = nullptr;
  bool second = false;                   ///< the other side was there before
  std::unique_ptr<Work> work = nullptr;  ///< once posted to the wrapped one
};

class Holding::HeldWork final : public Work {
 public:
  /// Under the lock.
  HeldWork(std::shared_ptr<Holding> holding, Side side)
      : holding_(std::move(holding)), side_(std::move(side)) {
    holding_->add(side_);
  }
  HeldWork(const HeldWork&) = delete;
  HeldWork& operator=(const HeldWork&) = delete;
  ~HeldWork() override {
    const std::lock_guard lock(holding_->mutex_);
    if (!side_.work) holding_->give_up(side_);
  }

  void wait(Clock::time_point deadline) override {
    std::unique_lock lock(holding_->mutex_);
    RankState& self = holding_->states_[side_.rank];
    self.waited = side_.message.get();
    try {
      holding_->paused();
      holding_->wait_until_posted(lock, side_, deadline);
      lock.unlock();
      side_.work->wait(deadline);
      lock.lock();
      self.waited = nullptr;
    } catch (...) {
      if (!lock) lock.lock();
      self.waited = nullptr;
      holding_->changed_.notify_all();  // this rank has failed
      throw;
    }
  }

 private:
  const std::shared_ptr<Holding> holding_;
  Side side_;
};

class Holding::HeldTransport final : public TransportDecorator {
 public:
  HeldTransport(std::shared_ptr<Holding> holding, Rank rank)
      : TransportDecorator(holding->ranks_[rank]),
        holding_(std::move(holding)) {}

  Works post(const Batch& batch, const Stream&) override {
    check_batch(batch, rank(), size());
    Works works;
    const std::lock_guard lock(holding_->mutex_);
    const auto add = [&](Rank peer, bool sends, const Buffer& buffer) {
      works.push_back(std::make_unique<HeldWork>(
          holding_, Side{rank(), peer, sends, buffer}));
    };
    for (const auto& [from, buffer] : batch.receives) {
      std::memset(buffer.data, 0xff, buffer.size);
      add(from, false, buffer);
    }
    for (const auto& [to, buffer, forwards] : batch.sends) {
      add(to, true, buffer);
    }
    return works;
  }
  void mark_failed(Rank rank) override {
    TransportDecorator::mark_failed(rank);
    const std::lock_guard lock(holding_->mutex_);
    holding_->changed_.notify_all();
  }
  void ended() override {
    TransportDecorator::ended();
    const std::lock_guard lock(holding_->mutex_);
    holding_->states_[rank()].ended = true;
    holding_->paused();
  }
  double seconds() const override {
    const std::lock_guard lock(holding_->mutex_);
    return holding_->seconds();
  }

 private:
  const std::shared_ptr<Holding> holding_;
};

Holding::Holding(Transports ranks)
    : ranks_(std::move(ranks)),
      pairs_(ranks_.size() * ranks_.size()),
      states_(ranks_.size()) {}

Transports Holding::transports() {
  Transports all;
  for (Rank rank = 0; rank < std::ssize(ranks_); ++rank) {
    all.push_back(std::make_shared<HeldTransport>(shared_from_this(), rank));
  }
  return all;
}

void Holding::add(Side& side) {
  const Rank from = side.sends ? side.rank : side.peer;
  const Rank to = side.sends ? side.peer : side.rank;
  Pair& pair = pairs_[from * ranks_.size() + to];
  side.second = !pair.unmatched.empty() && pair.unmatched_sends != side.sends;
  pair.unposted[side.sends].push_back(&side);
  if (side.second) {
    side.message = pair.unmatched.front();
    pair.unmatched.pop_front();
    matched(side.message, side.buffer.size);
  } else {
    side.message = std::make_shared<Message>(Message{.from = from, .to = to});
    pair.unmatched.push_back(side.message);
    pair.unmatched_sends = side.sends;
  }
  post_free(pair.unposted[side.sends]);
}

void Holding::release(Message& message) {
  message.released = true;
  for (Queue& queue : pair(message).unposted) post_free(queue);
}

bool Holding::all_pause() const {
  return std::ranges::all_of(states_, [](const RankState& rank) {
    return rank.waited ? !rank.waited->released : rank.ended;
  });
}

void Holding::post(Side& side) {
  Transport& rank = *ranks_[side.rank];
  const Receive receive{side.peer, side.buffer};
  const Send send{side.peer, side.buffer};
  Works works = side.sends
                    ? rank.post({.receives = {}, .sends = {&send, 1}}, {})
                    : rank.post({.receives = {&receive, 1}, .sends = {}}, {});
  side.work = std::move(works.front());
  changed_.notify_all();
}

/// Posts in order what nothing holds back; nothing any more once a rank has
/// failed, so that every wait ends with that failure.
void Holding::post_free(Queue& queue) {
  if (ranks_.front()->first_failed()) return;
  while (!queue.empty()) {
    Side& side = *queue.front();
    if (side.second && !side.message->released) return;
    queue.pop_front();
    post(side);
  }
}

/// The work of a side that is held back is destroyed. It is delivered, because
/// the other side counts on it, unless a rank has failed.
void Holding::give_up(Side& side) {
  Queue& queue = pair(*side.message).unposted[side.sends];
  if (ranks_.front()->first_failed()) {
    std::erase(queue, &side);
    return;
  }
  while (!side.work) {
    Side& next = *queue.front();
    queue.pop_front();
    post(next);
  }
}

void Holding::wait_until_posted(std::unique_lock<std::mutex>& lock, Side& side,
                                Clock::time_point deadline) {
  Transport& rank = *ranks_[side.rank];
  const auto fail = [&](std::string cause) {
    throw CommError({.rank = side.rank,
                     .peer = side.peer,
                     .operation = side.sends ? "send" : "receive",
                     .cause = std::move(cause),
                     .first_failed = rank.first_failed().value_or(-1)});
  };
  const auto start = Clock::now();
  while (!side.work) {
    if (const auto failed = rank.first_failed()) {
      fail(fmt::format("rank {} failed", *failed));
    }
    if (Clock::now() >= deadline) {
      rank.mark_failed(side.peer);
      fail(no_answer_since(start));
    }
    changed_.wait_until(lock, deadline);
  }
}

}  // namespace ringweave::comm
