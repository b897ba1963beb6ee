#include "ringweave/device/simulated/state.h"

namespace ringweave::device::simulated {
namespace {

struct Shared {
  std::mutex mutex;
  State state;
};

/// Never destroyed: tensors are freed, and threads end, until the very end of
/// the program.
Shared& shared() {
  static auto* const shared = new Shared;
  return *shared;
}

}  // namespace

LockedState::LockedState() : state_(shared().state), lock_(shared().mutex) {}

}  // namespace ringweave::device::simulated
