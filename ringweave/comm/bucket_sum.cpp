#include "ringweave/comm/bucket_sum.h"

#include <algorithm>

#include "ringweave/base/error.h"

namespace ringweave::comm {

BucketSum::BucketSum(std::span<std::byte> values, std::size_t element_bytes,
                     Add* add, std::vector<Range> buckets, Result result,
                     Communicator& communicator)
    : values_(values),
      element_bytes_(element_bytes),
      add_(add),
      buckets_(std::move(buckets)),
      result_(result),
      communicator_(communicator),
      parts_(buckets_.size()),
      pieces_(buckets_.size()),
      sums_(buckets_.size()) {}

std::span<std::byte> BucketSum::piece(std::size_t bucket, Rank owner) const {
  const Range& all = buckets_[bucket];
  const auto elements =
      static_cast<std::int64_t>(values_.size() / element_bytes_);
  const int ranks = communicator_.size();
  const Range own = result_ == Result::everywhere
                        ? cut(all, owner, ranks)
                        : clipped(cut({0, elements}, owner, ranks), all);
  return values_.subspan(static_cast<std::size_t>(own.begin) * element_bytes_,
                         static_cast<std::size_t>(own.size()) * element_bytes_);
}

void BucketSum::post(std::size_t bucket) {
  ensure(bucket == posted_ && bucket < buckets_.size(),
         "bucket {} of {} posted after {} others", bucket, buckets_.size(),
         posted_);
  ++posted_;
  const Rank rank = communicator_.rank();
  const std::span<std::byte> mine = piece(bucket, rank);
  const Buffer parts = allocate_buffer(communicator_.size() * mine.size());
  std::vector<Receive> receives;
  std::vector<Send> sends;
  for (Rank peer = 0; peer < communicator_.size(); ++peer) {
    const Buffer part = parts.slice(peer * mine.size(), mine.size());
    const std::span<std::byte> theirs = piece(bucket, peer);
    if (peer == rank) {
      std::ranges::copy(mine, part.data);
      continue;
    }
    if (!part.empty()) receives.push_back({peer, part});
    if (!theirs.empty()) sends.push_back({peer, borrowed(theirs)});
  }
  parts_[bucket] = parts;
  pieces_[bucket] = communicator_.post({receives, sends});
  // Behind the newest one, whose messages travel while this waits.
  if (bucket > 0) sum_up(bucket - 1);
}

void BucketSum::sum_up(std::size_t bucket) {
  wait(pieces_[bucket], bucket, "pieces");
  const Rank rank = communicator_.rank();
  const std::span<std::byte> mine = piece(bucket, rank);
  const std::span<const std::byte> parts(parts_[bucket].data,
                                         parts_[bucket].size);
  for (Rank peer = 0; peer < communicator_.size(); ++peer) {
    const auto part = parts.subspan(peer * mine.size(), mine.size());
    if (peer == 0) {
      std::ranges::copy(part, mine.begin());
    } else {
      add_(mine, part);
    }
  }
  parts_[bucket] = {};
  ++summed_;
  if (result_ == Result::pieces) return;
  std::vector<Receive> receives;
  std::vector<Send> sends;
  for (Rank peer = 0; peer < communicator_.size(); ++peer) {
    const std::span<std::byte> theirs = piece(bucket, peer);
    if (peer == rank) continue;
    if (!theirs.empty()) receives.push_back({peer, borrowed(theirs)});
    if (!mine.empty()) sends.push_back({peer, borrowed(mine)});
  }
  sums_[bucket] = communicator_.post({receives, sends});
}

void BucketSum::finish() {
  ensure(posted_ == buckets_.size(), "{} of {} buckets posted", posted_,
         buckets_.size());
  while (summed_ < buckets_.size()) sum_up(summed_);
  for (std::size_t i = 0; i < sums_.size(); ++i) wait(sums_[i], i, "sums");
}

void BucketSum::wait(Works& works, std::size_t bucket, const char* what) {
  const double before = communicator_.traffic().waiting_seconds();
  for (const auto& work : works) {
    communicator_.wait(*work, fmt::format("all-reduce: {}", what),
                       buckets_.size() > 1 ? static_cast<int>(bucket) : -1);
  }
  works.clear();
  waiting_seconds_ += communicator_.traffic().waiting_seconds() - before;
}

}  // namespace ringweave::comm
