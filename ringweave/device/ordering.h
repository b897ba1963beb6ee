// Every call that orders work on streams, by name.
//
// No result shows that one of them is missing: work that is not ordered mostly
// runs in the right order all the same. So tests drop each in turn, and the
// simulated device has to report it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>

#include "ringweave/device/accelerator.h"

namespace ringweave::device {

enum class OrderingCall {
  copy_behind_bytes,     ///< a copy waits until what is sent is there
  copy_behind_target,    ///< … and until nobody uses its target any more
  copy_on_source_lane,   ///< the copy runs on the lane's stream of the source
  copy_on_target_lane,   ///< … and behind the lane's stream of the target
  receiver_behind_copy,  ///< the receiver's stream waits for the copy
  sender_behind_copy,    ///< so does the sender's, before it writes again
  host_behind_copy,      ///< the host waits for a copy
  memory_behind_copy,    ///< memory of a message that is given up is kept
  scratch_behind_pass,   ///< a pass on another stream waits for the last one
  scratch_given_back,    ///< memory goes back behind the last pass
};

inline constexpr std::array kOrderingCalls = {
    OrderingCall::copy_behind_bytes,    OrderingCall::copy_behind_target,
    OrderingCall::copy_on_source_lane,  OrderingCall::copy_on_target_lane,
    OrderingCall::receiver_behind_copy, OrderingCall::sender_behind_copy,
    OrderingCall::host_behind_copy,     OrderingCall::memory_behind_copy,
    OrderingCall::scratch_behind_pass,  OrderingCall::scratch_given_back};

std::string_view name(OrderingCall call);

/// For tests: what is called, and what is left out.
struct OrderingWatch {
  std::optional<OrderingCall> dropped;
  std::array<std::atomic<std::int64_t>, kOrderingCalls.size()> calls = {};

  std::int64_t count(OrderingCall call) const {
    return calls[static_cast<std::size_t>(call)];
  }
};
/// Watches all threads from now on; null: none. Not while work is under way.
void watch_ordering(OrderingWatch* watch);

/// Whether the call is made; always, unless a test drops it.
bool is_made(OrderingCall call);

/// What is put on `stream` from now on runs after the mark.
inline void block(const Mark& mark, const Stream& stream, OrderingCall call) {
  if (is_made(call)) mark.block(stream);
}

/// What is put on `later` from now on runs after what `earlier` holds now.
inline void order(const Stream& earlier, const Stream& later,
                  OrderingCall call) {
  if (earlier == later || earlier.device.is_host()) return;
  block(*earlier.device.accelerator->mark(earlier), later, call);
}

}  // namespace ringweave::device
