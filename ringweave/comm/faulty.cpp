#include "ringweave/comm/faulty.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "ringweave/comm/transport_decorator.h"

namespace ringweave::comm {
namespace {

/// Which ranks have ended.
class Attendance {
 public:
  explicit Attendance(std::size_t ranks) : ended_(ranks) {}

  void end(Rank rank) {
    const std::lock_guard lock(mutex_);
    ended_[rank] = true;
    changed_.notify_all();
  }
  void wait_for_all_but(Rank rank) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] {
      return std::count(ended_.begin(), ended_.end(), false) ==
             (ended_[rank] ? 0 : 1);
    });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<bool> ended_;
};

class FaultyTransport final
    : public TransportDecorator,
      public std::enable_shared_from_this<FaultyTransport> {
 public:
  FaultyTransport(std::shared_ptr<Transport> inner, const Faults& faults,
                  std::shared_ptr<Attendance> attendance)
      : TransportDecorator(std::move(inner)),
        faults_(faults),
        attendance_(std::move(attendance)) {}

  Works post(const Batch& batch, const Stream& stream) override;
  void ended() override {
    attendance_->end(rank());
    TransportDecorator::ended();
  }

  /// Counts an operation; kills or stalls the rank if it is time.
  void count();

 private:
  bool is_hit(const std::optional<Faults::At>& at,
              std::int64_t operation) const {
    return at && at->rank == rank() && at->operation == operation;
  }
  /// How many of the next `operations` pass before a fault.
  std::size_t unharmed(std::size_t operations) const;

  const Faults faults_;
  const std::shared_ptr<Attendance> attendance_;
  std::int64_t operations_ = 0;
};

class FaultyWork final : public Work {
 public:
  FaultyWork(std::shared_ptr<FaultyTransport> transport,
             std::unique_ptr<Work> inner)
      : transport_(std::move(transport)), inner_(std::move(inner)) {}

  void wait(Clock::time_point deadline) override {
    transport_->count();
    inner_->wait(deadline);
  }
  void block(const Stream& stream, Clock::time_point deadline) override {
    transport_->count();
    inner_->block(stream, deadline);
  }

 private:
  const std::shared_ptr<FaultyTransport> transport_;
  std::unique_ptr<Work> inner_;
};

void FaultyTransport::count() {
  const std::int64_t operation = operations_++;
  const auto fault = [&](const char* what, bool stalled) {
    return InjectedFault(fmt::format("[faulty] rank {} was {} at operation {}",
                                     rank(), what, operation),
                         stalled);
  };
  if (is_hit(faults_.kill, operation)) {
    mark_failed(rank());
    throw fault("killed", false);
  }
  if (is_hit(faults_.stall, operation)) {
    attendance_->wait_for_all_but(rank());
    throw fault("stalled", true);
  }
}

std::size_t FaultyTransport::unharmed(std::size_t operations) const {
  std::size_t passed = 0;
  while (passed < operations) {
    const auto next = operations_ + static_cast<std::int64_t>(passed);
    if (is_hit(faults_.kill, next) || is_hit(faults_.stall, next)) break;
    ++passed;
  }
  return passed;
}

Works FaultyTransport::post(const Batch& batch, const Stream& stream) {
  const std::size_t passed = unharmed(batch.size());
  const std::size_t received = std::min(passed, batch.receives.size());
  Works works = inner().post({.receives = batch.receives.first(received),
                              .sends = batch.sends.first(passed - received)},
                             stream);
  operations_ += static_cast<std::int64_t>(passed);
  if (passed < batch.size()) count();
  for (auto& work : works) {
    work = std::make_unique<FaultyWork>(shared_from_this(), std::move(work));
  }
  return works;
}

}  // namespace

Transports faulty(Transports ranks, const Faults& faults) {
  auto attendance = std::make_shared<Attendance>(ranks.size());
  for (std::shared_ptr<Transport>& rank : ranks) {
    rank =
        std::make_shared<FaultyTransport>(std::move(rank), faults, attendance);
  }
  return ranks;
}

}  // namespace ringweave::comm
