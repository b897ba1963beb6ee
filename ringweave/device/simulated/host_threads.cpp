#include "ringweave/device/simulated/host_threads.h"

#include <memory>
#include <utility>

#include <c10/util/ThreadLocalDebugInfo.h>
#include <dlfcn.h>

#include "ringweave/device/simulated/host_accesses.h"

namespace ringweave::device::simulated {

struct HostIdentity : c10::DebugInfoBase,
                      std::enable_shared_from_this<HostIdentity> {
  explicit HostIdentity(ActorId actor) : actor(actor) {}

  const ActorId actor;
};

namespace {

/// torch's ThreadLocalState carries what is kept as this kind from the caller
/// of backward() into the threads of autograd's engine. A kind of our own would
/// need torch 2.13.
c10::DebugInfoKind kind() { return c10::DebugInfoKind::TEST_INFO; }

thread_local HostIdentity* t_own = nullptr;
thread_local int t_unwatched = 0;

/// After it is destroyed, torch's thread-local state is gone too. Threads may
/// still be joined then: the main thread's end is not the program's.
struct End {
  ~End() { passed = true; }
  static thread_local bool passed;
};
thread_local bool End::passed = false;

HostIdentity& be_born(State& state, Clock known = {}) {
  auto identity = std::make_shared<HostIdentity>(
      state.order.add_host("host", std::move(known)));
  t_own = identity.get();
  state.identities.push_back(std::move(identity));
  return *t_own;
}

HostIdentity& own_identity(State& state) {
  return t_own ? *t_own : be_born(state);
}

/// What the acting thread knows, also while it ends.
Clock& known(State& state) {
  return state.order.clock(End::passed ? own_identity(state).actor
                                       : this_host(state));
}

}  // namespace

ActorId this_host(State& state) {
  if (auto* info = c10::ThreadLocalDebugInfo::get(kind())) {
    return static_cast<HostIdentity*>(info)->actor;
  }
  HostIdentity& own = own_identity(state);
  c10::ThreadLocalDebugInfo::_push(kind(), own.shared_from_this());
  thread_local const End end;  // made last, it goes first
  return own.actor;
}

Unwatched::Unwatched() { ++t_unwatched; }
Unwatched::~Unwatched() { --t_unwatched; }
bool Unwatched::now() { return t_unwatched > 0; }

namespace {

using ThreadFunction = void* (*)(void*);

/// What a thread is given at its start.
struct Start {
  ThreadFunction function;
  void* argument;
  Clock known;
  bool watches_host;
};

void* run_thread(void* given) {
  const std::unique_ptr<Start> start(static_cast<Start*>(given));
  {
    const LockedState state;
    be_born(*state, std::move(start->known));
  }
  if (start->watches_host) watch_this_thread(true);
  void* const result = start->function(start->argument);
  const LockedState state;
  state->ended[pthread_self()] = state->order.clock(t_own->actor);
  return result;
}

template <typename Function>
Function* next_definition(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace
}  // namespace ringweave::device::simulated

extern "C" int pthread_create(pthread_t* thread,
                              const pthread_attr_t* attributes,
                              void* (*function)(void*), void* argument) {
  namespace simulated = ringweave::device::simulated;
  static auto* const create =
      simulated::next_definition<decltype(pthread_create)>("pthread_create");
  // The thread's end waits for the lock, so that a number that is used again
  // is first forgotten.
  const simulated::LockedState state;
  auto start = std::make_unique<simulated::Start>(simulated::Start{
      function, argument, simulated::known(*state), state->watches_host});
  const int failed =
      create(thread, attributes, &simulated::run_thread, start.get());
  if (failed) return failed;
  start.release();
  state->ended.erase(*thread);
  return 0;
}

extern "C" int pthread_join(pthread_t thread, void** result) {
  namespace simulated = ringweave::device::simulated;
  static auto* const join =
      simulated::next_definition<decltype(pthread_join)>("pthread_join");
  const int failed = join(thread, result);
  if (failed) return failed;
  const simulated::LockedState state;
  const auto ended = state->ended.find(thread);
  if (ended == state->ended.end()) return 0;
  simulated::join(simulated::known(*state), ended->second);
  state->ended.erase(ended);
  return 0;
}
