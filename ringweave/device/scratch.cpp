#include "ringweave/device/scratch.h"

#include "ringweave/device/ordering.h"

namespace ringweave::device {

Buffer Scratch::get(std::size_t bytes, const Stream& stream) {
  if (memory_.owner) order(used_on_, stream, OrderingCall::scratch_behind_pass);
  if (memory_.size < bytes) {
    drop();  // before there is another of its size
    memory_ = stream.device.is_host()
                  ? allocate_buffer(bytes)
                  : stream.device.accelerator->allocate(bytes, stream);
    taken_on_ = stream;
  }
  used_on_ = stream;
  return memory_.slice(0, bytes);
}

/// The allocator hands the memory out again on the stream that took it.
void Scratch::drop() {
  if (memory_.owner) {
    order(used_on_, taken_on_, OrderingCall::scratch_given_back);
  }
  memory_ = {};
}

}  // namespace ringweave::device
