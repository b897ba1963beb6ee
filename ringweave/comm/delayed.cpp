#include "ringweave/comm/delayed.h"

#include <algorithm>
#include <map>
#include <random>
#include <stop_token>
#include <thread>
#include <utility>

#include "ringweave/comm/holding.h"

namespace ringweave::comm {
namespace {

class Delayed final : public Holding {
 public:
  Delayed(Transports ranks, std::uint64_t seed,
          std::chrono::microseconds max_delay)
      : Holding(ranks),
        ranks_(static_cast<int>(ranks.size())),
        max_delay_(max_delay),
        pairs_(ranks.size() * ranks.size()),
        courier_([this](std::stop_token stop) { deliver(std::move(stop)); }) {
    for (std::size_t i = 0; i < pairs_.size(); ++i) {
      std::seed_seq seeds{seed, static_cast<std::uint64_t>(i)};
      pairs_[i].random.seed(seeds);
    }
  }

 private:
  struct Pair {
    std::minstd_rand random;
    Clock::time_point last_due;
  };

  void matched(const std::shared_ptr<Message>& message, std::size_t) override {
    Pair& pair = pairs_[message->from * ranks_ + message->to];
    std::uniform_int_distribution<std::int64_t> delay(0, max_delay_.count());
    pair.last_due =
        std::max(pair.last_due,
                 Clock::now() + std::chrono::microseconds(delay(pair.random)));
    due_.emplace(pair.last_due, message);
    changed_.notify_one();
  }

  void deliver(std::stop_token stop) {
    std::unique_lock lock(mutex());
    while (!stop.stop_requested()) {
      if (due_.empty()) {
        changed_.wait(lock, stop, [&] { return !due_.empty(); });
        continue;
      }
      const auto first = *due_.begin();
      if (Clock::now() < first.first) {
        changed_.wait_until(lock, stop, first.first,
                            [&] { return due_.begin()->first < first.first; });
        continue;
      }
      due_.erase(due_.begin());
      release(*first.second);
    }
  }

  const int ranks_;
  const std::chrono::microseconds max_delay_;
  std::vector<Pair> pairs_;  ///< [from * ranks + to]
  std::multimap<Clock::time_point, std::shared_ptr<Message>> due_;
  std::condition_variable_any changed_;
  std::jthread courier_;
};

}  // namespace

Transports delayed(Transports ranks, std::uint64_t seed,
                   std::chrono::microseconds max_delay) {
  return std::make_shared<Delayed>(std::move(ranks), seed, max_delay)
      ->transports();
}

}  // namespace ringweave::comm
