// A group of ranks with small collectives, time-outs and a traffic log.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ringweave/comm/agreement.h"
#include "ringweave/comm/transport.h"
#include "ringweave/device/scratch.h"

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
  /// Wall time blocked in waits, by operation.
  std::map<std::string, double, std::less<>> waited_seconds;
  /// Largest size of the slots that one pass had at a time; the passes of
  /// softmax attention report theirs.
  std::int64_t peak_buffer_bytes = 0;

  std::int64_t bytes() const;
  /// Of all operations.
  double waiting_seconds() const;
  double waiting_seconds(std::string_view operation) const;
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
  const TimeOuts& time_outs() const { return time_outs_; }

  /// Transport::post(); what is sent is counted in traffic(). Throws
  /// InternalError as check_batch().
  Works post(const Batch& batch, const Stream& stream = {});
  /// One message.
  std::unique_ptr<Work> send(Rank to, Buffer buffer);
  std::unique_ptr<Work> receive(Rank from, Buffer buffer);
  /// Waits for `work`, at most the step time-out, counts the time, and
  /// completes a CommError's facts with `operation`, `step` and, where it is
  /// known, the first failed rank.
  void wait(Work& work, const std::string& operation, int step = -1);
  /// The same, but only orders `stream` behind the message where the transport
  /// can (Work::block).
  void block(Work& work, const Stream& stream, const std::string& operation,
             int step = -1);

  /// Memory of the stream's device for one pass on it, as device/scratch.h has
  /// it: the same again for the next pass, as passes on one communicator follow
  /// one another. Grows to the largest request, and so is allocated once for
  /// equal passes.
  Buffer scratch(std::size_t bytes, const Stream& stream = {});

  /// Whether the ranks' messages may lie in the device's memory. One rank has
  /// none.
  bool carries(const Device& device) const {
    return size() == 1 || transport_->carries(device);
  }

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
  /// Gives all ranks the piece of each: of the values, cut() in size() pieces,
  /// piece r is that of rank r.
  void all_gather_pieces(std::span<double> values);
  void all_gather_pieces(std::span<float> values);
  /// Returns once every rank has called it. One step of one byte per pair.
  void barrier();

  /// Gives all ranks the bytes of `root`, straight; `buffer` is of the same
  /// size on all. One step.
  void broadcast(const Buffer& buffer, Rank root, const std::string& operation);

  /// Compares `facts` (name → text, such as {"config", hash}) over all ranks,
  /// within the start time-out. Throws InvalidArgument on every rank, naming
  /// the first fact and the ranks that differ from rank 0; a fact that only
  /// some ranks have differs, too.
  void check_agreement(const std::map<std::string, std::string>& facts);

  /// From now on the ranks compare their calls of operations (call()).
  void set_agreement(std::unique_ptr<Agreement> agreement) {
    agreement_ = std::move(agreement);
  }
  /// Null unless set.
  Agreement* agreement() { return agreement_.get(); }

  /// From now on every call() calls this first; what it throws, call() throws.
  /// So a pass over many layers can be stopped between them.
  void set_before_call(std::function<void()> before_call) {
    before_call_ = std::move(before_call);
  }

  /// One call of an operation whose messages all ranks must match. `check`
  /// throws where this rank refuses the call; `facts` returns what all ranks
  /// must have equal; `run`, which is given the number of the call (0 without
  /// an agreement), sends and receives, and runs only where all ranks agree.
  /// `forward`: of a backward, the number of its forward. Returns what `run`
  /// returns. Throws as Agreement, and what `run` throws, after which the
  /// communicator can't be used. Without an agreement nothing is compared.
  template <typename Check, typename MakeFacts, typename Run>
  auto call(const std::string& operation, std::int64_t forward,
            const Check& check, const MakeFacts& facts, const Run& run);
  /// Takes part in the other ranks' call(), which this rank can't make for
  /// `reason`. As Agreement::refuse(); nothing without an agreement.
  void refuse(const std::string& operation, const std::string& reason);
  /// What `make` returns, which this rank's call() needs; if it throws, the
  /// other ranks learn of it by refuse().
  template <typename Make>
  auto or_refuse(const std::string& operation, const Make& make);
  /// Agreement::set_mode(), if there is an agreement.
  void set_agreement_mode(AgreementMode mode);
  /// Ends this rank's part, in which no message is under way: the others' waits
  /// fail, and every later call() or refuse() here is a CommError that says
  /// `why`. Only with an agreement.
  void leave(const std::string& why);

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
  void check_usable(const std::string& operation) const;
  /// leave(), after the others can read that this rank failed.
  void fail(const std::string& why);
  /// Calls `act`; what it throws ends this rank's part, unless nothing moved.
  template <typename Act>
  auto or_fail(const Act& act);
  template <typename T>
  std::span<T> piece(std::span<T> values, Rank owner) const;
  template <typename T>
  void all_reduce(std::span<T> values);
  template <typename T>
  void gather_pieces(std::span<T> values);
  Clock::time_point step_deadline() const {
    return Clock::now() + time_outs_.step;
  }

  std::shared_ptr<Transport> transport_;
  TimeOuts time_outs_;
  Traffic traffic_;
  std::map<std::pair<const device::Accelerator*, int>, device::Scratch>
      scratch_;  ///< by device
  std::function<void()> before_call_;
  std::unique_ptr<Agreement> agreement_;
  std::string left_;  ///< why this rank takes no part any more; empty: it does
};

template <typename Act>
auto Communicator::or_fail(const Act& act) {
  try {
    return act();
  } catch (const Disagreement& error) {
    // With first_use data of an earlier call may have gone to another one.
    if (agreement_->mode() != AgreementMode::every) fail(error.what());
    throw;
  } catch (const CommError& error) {
    leave(error.what());  // it noticed a failure, and so isn't the first failed
    throw;
  } catch (const std::exception& error) {
    fail(error.what());
    throw;
  }
}

template <typename Make>
auto Communicator::or_refuse(const std::string& operation, const Make& make) {
  try {
    return make();
  } catch (const std::exception& error) {
    refuse(operation, error.what());
    throw;
  }
}

template <typename Check, typename MakeFacts, typename Run>
auto Communicator::call(const std::string& operation, std::int64_t forward,
                        const Check& check, const MakeFacts& facts,
                        const Run& run) {
  if (before_call_) before_call_();
  if (!agreement_) {
    check();
    return run(std::int64_t{0});
  }
  check_usable(operation);
  Facts mine = or_refuse(operation, [&] {
    check();
    return facts();
  });
  return or_fail([&] {
    return run(agreement_->agree(operation, std::move(mine), forward));
  });
}

}  // namespace ringweave::comm
