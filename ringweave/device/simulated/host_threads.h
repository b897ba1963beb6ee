// Which thread of the host is at work.
//
// A thread starts with what the one that starts it knows, and who joins it then
// knows what it knew: pthread_create and pthread_join are ours, which needs
// programs that are linked with -rdynamic.
#pragma once

#include "ringweave/device/simulated/state.h"

namespace ringweave::device::simulated {

/// The actor that this thread is. A thread of autograd's engine is the one that
/// called backward(), which waits for it.
ActorId this_host(State& state);

/// While one lives, what the thread runs is no access: a kernel's own insides.
class Unwatched {
 public:
  Unwatched();
  ~Unwatched();
  Unwatched(const Unwatched&) = delete;
  Unwatched& operator=(const Unwatched&) = delete;

  /// Whether this thread is in one.
  static bool now();
};

}  // namespace ringweave::device::simulated
