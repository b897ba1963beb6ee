// What code without torch asks of an accelerator: marks in its streams, memory,
// and copies between its devices. device/torch_accelerator.h has the one that
// torch knows.
//
// Work on an accelerator is put on streams and runs later. Four rules keep it
// right:
//   1. New memory is safe on the stream that took it: other streams wait for a
//      mark there before they touch it.
//   2. Memory is written again, or given back, behind a mark of its last
//   reader.
//   3. Copies run on streams of their own, behind a mark of either side.
//   4. The host waits for the mark of a few steps ago, so that it never runs
//      further ahead than that.
#pragma once

#include <cstddef>
#include <memory>

#include "ringweave/device/buffer.h"

namespace ringweave::device {

/// A point of a stream: all that was put on it until then. Threads may share a
/// mark.
class Mark {
 public:
  virtual ~Mark() = default;
  /// What is put on `stream` from now on runs after the mark. The host goes on.
  virtual void block(const Stream& stream) const = 0;
  /// Whether all before it has run.
  virtual bool passed() const = 0;
  /// Blocks the host until it has.
  virtual void wait() const = 0;
};

using SharedMark = std::shared_ptr<const Mark>;

/// Copies from one device to another, or within one, in order, on streams that
/// are the lane's own. Threads may share it.
class CopyLane {
 public:
  virtual ~CopyLane() = default;
  /// Copies all of `from` to `to`, of the same size, once `ready` (the bytes
  /// are there) and `free` (nobody reads or writes the target any more) have
  /// passed. Returns at once, with the mark behind the copy. The caller keeps
  /// both buffers until it has passed, or is blocked for.
  virtual SharedMark copy(const Buffer& from, const Mark& ready,
                          const Buffer& to, const Mark& free) = 0;
};

class Accelerator {
 public:
  virtual ~Accelerator() = default;
  /// Memory of the stream's device with undefined content, safe on that stream.
  virtual Buffer allocate(std::size_t bytes, const Stream& stream) const = 0;
  /// What the stream holds now.
  virtual SharedMark mark(const Stream& stream) const = 0;
  virtual std::unique_ptr<CopyLane> lane(const Device& from,
                                         const Device& to) const = 0;
};

/// The stream's mark; null on the host, where everything has run.
inline SharedMark mark(const Stream& stream) {
  if (stream.device.is_host()) return nullptr;
  return stream.device.accelerator->mark(stream);
}

}  // namespace ringweave::device
