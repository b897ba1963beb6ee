#include "python/group_state.h"

#include <map>
#include <mutex>
#include <utility>

#include <torch/csrc/distributed/c10d/GroupRegistry.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include "ringweave/comm/c10d_transport.h"

namespace ringweave::python {

GroupState::GroupState(const std::string& group)
    : communicator_(comm::c10d_communicator(group)) {}

GroupState& group_state(const std::string& group) {
  // The transport holds the group, so that its address stays taken.
  using Key = std::pair<std::string, const void*>;
  static std::mutex mutex;
  static auto& states = *new std::map<Key, std::unique_ptr<GroupState>>;

  const std::lock_guard lock(mutex);
  // Not there: c10d_communicator() says so, and better.
  const void* address = nullptr;
  try {
    address = c10d::resolve_process_group(group).get();
  } catch (const c10::Error&) {
    comm::c10d_communicator(group);
    throw;
  }
  std::unique_ptr<GroupState>& state = states[{group, address}];
  if (!state) state = std::make_unique<GroupState>(group);
  return *state;
}

}  // namespace ringweave::python
