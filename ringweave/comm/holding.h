// Messages that are held back until they are released: what delayed.h and
// emulation/emulated_links.h share.
//
// Of each message, the side that is posted first goes to the wrapped transport
// at once; the side that is posted second is held back. So nothing is copied
// before the release, and a rank that waits for one that never posts waits in
// the wrapped transport, which finds out who failed. Receive buffers are filled
// with 0xff (NaN) until the release, and sources are read only then, so that
// touching a buffer too early shows.
#pragma once

#include <array>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>

#include "ringweave/comm/transport.h"

namespace ringweave::comm {

/// What all ranks' decorated transports share. The wrapped ones must carry host
/// memory, and allow a post while another thread waits.
class Holding : public std::enable_shared_from_this<Holding> {
 public:
  explicit Holding(Transports ranks);
  Holding(const Holding&) = delete;
  Holding& operator=(const Holding&) = delete;
  virtual ~Holding() = default;

  /// The decorated transports.
  Transports transports();

 protected:
  struct Message {
    Rank from = -1;
    Rank to = -1;
    bool released = false;
  };

  // All are called under the lock of mutex().

  /// Both sides of a message of `bytes` bytes were posted. It has to be
  /// released later, and not before earlier messages of its pair.
  virtual void matched(const std::shared_ptr<Message>& message,
                       std::size_t bytes) = 0;
  /// A rank began to wait, or has ended.
  virtual void paused() {}
  virtual double seconds() const { return ranks_.front()->seconds(); }

  void release(Message& message);
  /// Whether all ranks have ended or wait for messages that aren't released,
  /// and none has failed.
  bool all_pause() const;
  std::mutex& mutex() const { return mutex_; }

 private:
  class HeldTransport;
  class HeldWork;
  struct Side;
  using Queue = std::deque<Side*>;
  struct Pair {
    std::deque<std::shared_ptr<Message>> unmatched;  ///< all of the same side
    bool unmatched_sends = false;
    std::array<Queue, 2> unposted;  ///< sides, [sends], in their order
  };
  struct RankState {
    const Message* waited = nullptr;
    bool ended = false;
  };

  Pair& pair(const Message& message) {
    return pairs_[message.from * ranks_.size() + message.to];
  }
  void add(Side& side);
  void post(Side& side);
  void post_free(Queue& queue);
  void give_up(Side& side);
  void wait_until_posted(std::unique_lock<std::mutex>& lock, Side& side,
                         Clock::time_point deadline);

  const Transports ranks_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Pair> pairs_;  ///< [from * ranks + to]
  std::vector<RankState> states_;
};

}  // namespace ringweave::comm
