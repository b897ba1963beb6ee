// What all threads share, behind one lock.
//
// Only bookkeeping happens under the lock, never a kernel, and never anything
// that may free a tensor: freeing memory of the device takes the lock too.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include <pthread.h>

#include "ringweave/device/simulated/happens_before.h"

namespace ringweave::device::simulated {

struct HostIdentity;

/// Whoever has a reference to it holds its lock.
struct State {
  HappensBefore order;
  Settings settings;

  /// [device][id of a stream]: its actor, or -1 if it was never used.
  std::array<std::vector<ActorId>, kDevices> streams;
  /// [device]: how many streams were taken from its pool, and made.
  std::array<std::int64_t, kDevices> pooled = {};
  std::array<std::int64_t, kDevices> made = {};

  /// [device], and at the end pinned memory: how many blocks were allocated.
  std::array<int, kDevices + 1> blocks = {};
  std::map<std::uintptr_t, std::size_t> pinned;  ///< start → size

  bool watches_host = false;
  /// Of all threads so far: their thread-local pointers die with them.
  std::vector<std::shared_ptr<HostIdentity>> identities;
  /// What threads knew at their end that nobody has joined yet.
  std::map<pthread_t, Clock> ended;
};

/// Locks the state for as long as it lives.
class LockedState {
 public:
  LockedState();

  State& operator*() const { return state_; }
  State* operator->() const { return &state_; }

 private:
  State& state_;
  std::lock_guard<std::mutex> lock_;
};

}  // namespace ringweave::device::simulated
