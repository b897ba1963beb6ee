// Sums of many values over ranks, part by part, while later parts are computed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ringweave/base/range.h"
#include "ringweave/comm/communicator.h"

namespace ringweave::comm {

/// Sums values in place over all ranks of a communicator, in rank order: the
/// bits of Communicator::all_reduce_sum(), however the values are cut into
/// buckets. A bucket is cut into a piece for each rank, which gets it from the
/// others and sums it (reduce-scatter), and may give the sums to all
/// (all-gather).
///
/// Messages match by order alone. So the buckets are posted in their order, at
/// points that lie between the same other messages on all ranks. One object is
/// for one sum; the values must outlive it, and it the communicator's messages
/// of it: until finish(), or an error.
class BucketSum {
 public:
  enum class Result {
    everywhere,  ///< all ranks get all sums; a bucket's pieces are equal
    pieces       ///< rank r gets the sums of piece r of all values
  };

  /// `buckets` tile 0 … values.size() - 1, in any order.
  template <typename T>
  BucketSum(std::span<T> values, std::vector<Range> buckets, Result result,
            Communicator& communicator)
      : BucketSum(std::as_writable_bytes(values), sizeof(T), add<T>,
                  std::move(buckets), result, communicator) {}

  /// Starts the sum of the next bucket, whose values must not change any more,
  /// and waits for the one before it. Throws InternalError for another bucket,
  /// CommError at the step time-out.
  void post(std::size_t bucket);
  /// The bucket that post() wants.
  std::size_t next() const { return posted_; }
  /// Waits for all, which must have been posted.
  void finish();

  /// Of post() and finish(); a part of the communicator's traffic.
  double waiting_seconds() const { return waiting_seconds_; }

 private:
  using Add = void(std::span<std::byte> sums, std::span<const std::byte> more);

  template <typename T>
  static void add(std::span<std::byte> sums, std::span<const std::byte> more) {
    auto* to = reinterpret_cast<T*>(sums.data());
    const auto* from = reinterpret_cast<const T*>(more.data());
    for (std::size_t i = 0; i < sums.size() / sizeof(T); ++i) to[i] += from[i];
  }

  BucketSum(std::span<std::byte> values, std::size_t element_bytes, Add* add,
            std::vector<Range> buckets, Result result,
            Communicator& communicator);

  /// Of the values in a bucket, those that a rank sums.
  std::span<std::byte> piece(std::size_t bucket, Rank owner) const;
  /// Sums this rank's piece of a bucket that was posted, and gives it away.
  void sum_up(std::size_t bucket);
  void wait(Works& works, std::size_t bucket, const char* what);

  std::span<std::byte> values_;
  std::size_t element_bytes_;
  Add* add_;
  std::vector<Range> buckets_;
  Result result_;
  Communicator& communicator_;
  std::size_t posted_ = 0;
  std::size_t summed_ = 0;
  std::vector<Buffer> parts_;  ///< all ranks' values of this rank's piece
  std::vector<Works> pieces_;  ///< by bucket, like sums_
  std::vector<Works> sums_;
  double waiting_seconds_ = 0;
};

}  // namespace ringweave::comm
