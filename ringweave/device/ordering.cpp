#include "ringweave/device/ordering.h"

#include "ringweave/base/error.h"

namespace ringweave::device {
namespace {

std::atomic<OrderingWatch*> watch = nullptr;

}  // namespace

std::string_view name(OrderingCall call) {
  switch (call) {
    case OrderingCall::copy_behind_bytes:
      return "copy_behind_bytes";
    case OrderingCall::copy_behind_target:
      return "copy_behind_target";
    case OrderingCall::copy_on_source_lane:
      return "copy_on_source_lane";
    case OrderingCall::copy_on_target_lane:
      return "copy_on_target_lane";
    case OrderingCall::receiver_behind_copy:
      return "receiver_behind_copy";
    case OrderingCall::sender_behind_copy:
      return "sender_behind_copy";
    case OrderingCall::host_behind_copy:
      return "host_behind_copy";
    case OrderingCall::memory_behind_copy:
      return "memory_behind_copy";
    case OrderingCall::scratch_behind_pass:
      return "scratch_behind_pass";
    case OrderingCall::scratch_given_back:
      return "scratch_given_back";
  }
  throw InternalError("bug in ringweave: an ordering call without a name");
}

void watch_ordering(OrderingWatch* next) { watch = next; }

bool is_made(OrderingCall call) {
  OrderingWatch* const now = watch;
  if (!now) return true;
  ++now->calls[static_cast<std::size_t>(call)];
  return now->dropped != call;
}

}  // namespace ringweave::device
