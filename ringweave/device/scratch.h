// Memory for passes that follow one another.
#pragma once

#include <cstddef>

#include "ringweave/device/buffer.h"

namespace ringweave::device {

/// The same memory for each pass, taken again only for one that wants more. Of
/// one device. Not for several threads at a time.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { drop(); }

  /// Memory of the stream's device with undefined content, which the caller
  /// uses on `stream` until the next call. What was handed out stays valid
  /// while somebody holds it, with the content that later passes leave in it.
  Buffer get(std::size_t bytes, const Stream& stream);

 private:
  void drop();

  Buffer memory_;
  Stream taken_on_, used_on_;
};

}  // namespace ringweave::device
