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
  /// Largest size of the slots that one pass had at a time; the passes of
  /// softmax attention report theirs.
  std::int64_t peak_buffer_bytes = 0;

  std::int64_t bytes() const;
  void note_buffers(std::int64_t bytes);
};

/// Not thread-safe: one thread per rank drives it. Collectives must be called
/// by every member in the same order; they block, and throw CommError at the
/// step time-out.
class Communicator {
 public:
  /// Throws InvalidArgument unless both time-outs are positive.
  explicit Communicator(std::shared_ptr<Transport> transport,
                        TimeOuts time_outs = {});
  Communicator(Communicator&&) = default;
  Communicator& operator=(Communicator&&) = default;

  Rank rank() const { return transport_->rank(); }
  int size() const { return transport_->size(); }

  /// Transport::post(); what is sent is counted in traffic(). Throws
  /// InternalError as check_batch().
  Works post(const Batch& batch, const Stream& stream = {});
  /// One message.
  std::unique_ptr<Work> send(Rank to, Buffer buffer);
  std::unique_ptr<Work> receive(Rank from, Buffer buffer);
  /// Waits for `work`, at most the step time-out, counts the time, and
  /// completes a CommError's facts with `operation`, `step` and the first
  /// failed rank. If no rank is marked as failed yet, the peer waited for is.
  void wait(Work& work, const std::string& operation, int step = -1);
  /// The same, but only orders `stream` behind the message where the transport
  /// can (Work::block).
  void block(Work& work, const Stream& stream, const std::string& operation,
             int step = -1);

  /// Host memory for one pass, aligned, with undefined content: the same again
  /// for the next pass, as passes on one communicator follow one another. Grows
  /// to the largest request, and so is allocated once for equal passes. What
  /// was handed out stays valid while somebody holds it, with the content that
  /// later passes leave in it.
  Buffer scratch(std::size_t bytes);

  /// Every rank's bytes, in rank order (lengths may differ, and be 0). Two
  /// steps: lengths of 8 bytes each, then the bytes, straight to every other
  /// rank.
  std::vector<std::vector<std::byte>> all_gather(
      std::span<const std::byte> bytes);
  std::vector<std::string> all_gather(const std::string& text);
  /// In place; every element is summed in rank order, so all ranks and all
  /// engines get equal bits. The spans have the same length on all ranks. Two
  /// steps, in which a rank sends each other rank 1/size of the values: rank r
  /// gets all values of piece r, and sends their sums back.
  void all_reduce_sum(std::span<double> values);
  void all_reduce_sum(std::span<float> values);
  /// Returns once every rank has called it. One step of one byte per pair.
  void barrier();

  /// Compares `facts` (name → text, such as {"config", hash}) over all ranks,
  /// within the start time-out. Throws InvalidArgument on every rank, naming
  /// the first fact and the ranks that differ from rank 0; a fact that only
  /// some ranks have differs, too.
  void check_agreement(const std::map<std::string, std::string>& facts);

  Traffic& traffic() { return traffic_; }
  Transport& transport() { return *transport_; }

 private:
  /// Posts all but the empty ones, and waits for all.
  void exchange(std::vector<Receive> receives, std::vector<Send> sends,
                Clock::time_point deadline, const std::string& operation);
  template <typename Wait>
  void count_wait(const Wait& wait, const std::string& operation, int step);
  std::vector<std::vector<std::byte>> gather(std::span<const std::byte> bytes,
                                             Clock::time_point deadline,
                                             const std::string& operation);
  void barrier(Clock::time_point deadline);
  template <typename T>
  void sum(std::span<T> values);
  Clock::time_point step_deadline() const {
    return Clock::now() + time_outs_.step;
  }

  std::shared_ptr<Transport> transport_;
  TimeOuts time_outs_;
  Traffic traffic_;
  Buffer scratch_;
};

}  // namespace ringweave::comm
