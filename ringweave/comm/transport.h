// Point-to-point messages between the ranks of one group.
//
// Two implementations: local_transport.h (ranks are threads of this process)
// and c10d_transport.h (any process group that PyTorch made). Messages between
// a pair of ranks match in order, never by tag, because some back ends ignore
// tags.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "ringweave/base/range.h"

namespace ringweave::comm {

using Clock = std::chrono::steady_clock;

/// A message under way. Must be waited for before its buffer is reused or
/// freed. Destroying one unwaited is allowed only after an error.
class Work {
 public:
  virtual ~Work() = default;
  /// Blocks until the message is sent or received. Throws CommError, with rank,
  /// peer and cause filled in, at `deadline` or when the peer is known to have
  /// failed.
  virtual void wait(Clock::time_point deadline) = 0;
};

class Transport {
 public:
  virtual ~Transport() = default;

  virtual Rank rank() const = 0;
  virtual int size() const = 0;

  /// Starts sending; does not block for the receiver. `bytes` must stay
  /// unchanged until the work was waited for. Peers are never this rank, and
  /// messages never empty: Communicator sees to it.
  virtual std::unique_ptr<Work> send(Rank to,
                                     std::span<const std::byte> bytes) = 0;
  /// Starts receiving a message of exactly bytes.size() bytes.
  virtual std::unique_ptr<Work> receive(Rank from,
                                        std::span<std::byte> bytes) = 0;

  /// Leaves a mark, readable by the others, that `rank` was the first to fail,
  /// unless there is one. Never throws, never blocks for long.
  virtual void mark_failed(Rank rank) = 0;
  /// The rank in the mark.
  virtual std::optional<Rank> first_failed() = 0;

  /// The clock that tells how long transfers take; only differences mean
  /// something. The real one, except for local ranks on a model of links.
  virtual double seconds() const {
    return std::chrono::duration<double>(Clock::now().time_since_epoch())
        .count();
  }
};

}  // namespace ringweave::comm
