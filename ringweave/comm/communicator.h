// A group of ranks with small collectives, time-outs and a traffic log.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ringweave/comm/transport.h"

namespace ringweave::comm {

struct TimeOuts {
  std::chrono::milliseconds start{60'000};  ///< until the agreement check ends
  std::chrono::milliseconds step{600'000};  ///< every later wait
};

/// What this rank sent, per receiving rank, and how long it waited.
struct Traffic {
  struct Sent {
    std::int64_t messages = 0;
    std::int64_t bytes = 0;
  };
  std::map<Rank, Sent> sent;
  double waiting_seconds = 0;  ///< wall time blocked in waits

  std::int64_t bytes() const;
};

/// Not thread-safe: one thread per rank drives it. Collectives must be called
/// by every member in the same order; they block, and throw CommError at the
/// step time-out.
class Communicator {
 public:
  explicit Communicator(std::shared_ptr<Transport> transport,
                        TimeOuts time_outs = {});

  Rank rank() const { return transport_->rank(); }
  int size() const { return transport_->size(); }

  /// Point to point, non-blocking; counted in traffic(). Empty messages and
  /// messages to this rank are InternalErrors.
  std::unique_ptr<Work> send(Rank to, std::span<const std::byte> bytes);
  std::unique_ptr<Work> receive(Rank from, std::span<std::byte> bytes);
  /// Waits for `work`, counts the time, and completes a CommError's facts with
  /// `operation`, `step` and the first failed rank.
  void wait(Work& work, const std::string& operation, int step = -1);

  /// Every rank's bytes, in rank order (lengths may differ).
  std::vector<std::vector<std::byte>> all_gather(
      std::span<const std::byte> bytes);
  std::vector<std::string> all_gather(const std::string& text);
  /// In place; every element is summed in rank order, so all ranks and all
  /// engines get equal bits.
  void all_reduce_sum(std::span<double> values);
  void all_reduce_sum(std::span<float> values);
  void barrier();

  /// Compares `facts` (name → text, such as {"config", hash}) over all ranks,
  /// within the start time-out. Throws InvalidArgument on every rank, naming
  /// the first fact and the ranks that differ from rank 0.
  void check_agreement(const std::map<std::string, std::string>& facts);

  Traffic& traffic() { return traffic_; }
  Transport& transport() { return *transport_; }

 private:
  std::shared_ptr<Transport> transport_;
  TimeOuts time_outs_;
  Traffic traffic_;
};

}  // namespace ringweave::comm
