// Point-to-point messages between the ranks of one group.
//
// Two implementations: local_transport.h (ranks are threads of this process)
// and c10d_transport.h (any process group that PyTorch made). Decorators wrap
// the transports of local ranks: delayed.h, faulty.h and
// emulation/emulated_links.h. Messages between a pair of ranks match in order,
// never by tag, because some back ends ignore tags.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ringweave/base/range.h"
#include "ringweave/device/buffer.h"

namespace ringweave::comm {

using Clock = std::chrono::steady_clock;

// What messages are made of.
using device::allocate_buffer;
using device::borrowed;
using device::Buffer;
using device::Device;
using device::Stream;

/// A message under way. Must be waited or blocked for before its buffer is
/// reused. Destroying one before is allowed only after an error.
class Work {
 public:
  virtual ~Work() = default;
  /// Blocks the host until the message is sent or received. Throws CommError,
  /// with rank, peer, cause and, where it is known, the first failed rank
  /// filled in, at `deadline` or when the peer is known to have failed. Leaves
  /// the mark of the first failed rank (Transport::mark_failed) if it finds
  /// which it is.
  virtual void wait(Clock::time_point deadline) = 0;
  /// What is put on `stream` from now on runs after the message. The host may
  /// go on at once and run far ahead; it bounds that by a wait() for a message
  /// of some steps ago. A transport of host memory waits here, with wait()'s
  /// errors.
  ///
  /// The deadline is of this call, not of the post: a rank may compute for
  /// longer than a time-out between the two, and a message that is late only
  /// then is no failure.
  virtual void block(const Stream& stream, Clock::time_point deadline) {
    wait(deadline);
  }
};

using Works = std::vector<std::unique_ptr<Work>>;

/// A message of exactly buffer.size bytes to be received.
struct Receive {
  Rank from = -1;
  Buffer buffer;
};

/// A message to be sent. The bytes must stay unchanged until its work was
/// waited or blocked for.
struct Send {
  Rank to = -1;
  Buffer buffer;
  /// The receive that brought what is sent on, or null. The posting stream is
  /// behind it already. A transport may start the send right behind that
  /// receive, without the rest of the stream. It ignores works that are not its
  /// own. The post alone uses it.
  Work* forwards = nullptr;
};

/// The messages of one step, to be posted together.
struct Batch {
  std::span<const Receive> receives;
  std::span<const Send> sends;

  std::size_t size() const { return receives.size() + sends.size(); }
};

class Transport {
 public:
  virtual ~Transport() = default;

  virtual Rank rank() const = 0;
  virtual int size() const = 0;

  /// Starts all messages of a batch and returns the work of each, receives
  /// first. Does not wait for a peer. Messages start behind what `stream` holds
  /// now, so that memory freshly taken from an accelerator's allocator, which
  /// is safe on the stream that took it, may be received into. Peers are never
  /// this rank and messages never empty; see check_batch().
  virtual Works post(const Batch& batch, const Stream& stream) = 0;

  /// Whether messages may lie in the memory of `device`, all of a batch with
  /// the stream on the same device. All transports carry the host's.
  virtual bool carries(const Device& device) const { return device.is_host(); }

  /// Leaves a mark, readable by the others, that `rank` was the first to fail,
  /// unless there is one. Never throws, never blocks for long.
  virtual void mark_failed(Rank rank) = 0;
  /// The rank in the mark.
  virtual std::optional<Rank> first_failed() = 0;

  /// Says that this rank will send and receive nothing more, so that waits for
  /// it fail. Who runs local ranks calls it; processes just end.
  virtual void ended() {}

  /// The clock that tells how long transfers take; only differences mean
  /// something. The real one, except on emulated links.
  virtual double seconds() const {
    return std::chrono::duration<double>(Clock::now().time_since_epoch())
        .count();
  }
};

/// The transports of all ranks of this process, by rank.
using Transports = std::vector<std::shared_ptr<Transport>>;

/// Wraps the transports of all ranks.
using Decorator = std::function<Transports(Transports)>;

/// Throws InternalError unless all messages of `batch`, posted by `rank` of
/// `size`, have bytes and another rank as their peer.
void check_batch(const Batch& batch, Rank rank, int size);

/// The cause of a CommError at a deadline: "no answer within 12 s".
std::string no_answer_since(Clock::time_point start);

}  // namespace ringweave::comm
