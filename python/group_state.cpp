#include "python/group_state.h"

#include <filesystem>
#include <map>
#include <mutex>

#include <torch/csrc/distributed/c10d/GroupRegistry.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include "ringweave/base/error.h"
#include "ringweave/comm/c10d_transport.h"

namespace ringweave::python {

GroupState::GroupState(const std::string& group)
    : communicator_(comm::c10d_communicator(group)) {}

std::shared_ptr<const attention::AttentionPlan> GroupState::attention_plan(
    const attention::AttentionSpec& spec) {
  const std::string key = fmt::format(
      "{} {} {} {} {}", schedule::to_json(spec.strategy).dump(),
      spec.q_layout.to_json().dump(), spec.kv_layout.to_json().dump(),
      spec.mask.to_json().dump(), spec.backward);
  return attention_.get(key, [&] {
    return attention::make_attention_plan(spec, communicator_.rank());
  });
}

std::shared_ptr<const linear_attention::LinearPlan> GroupState::linear_plan(
    const linear_attention::LinearSpec& spec) {
  const std::string key =
      fmt::format("{} {} {}", spec.exchange->name(),
                  spec.layout.to_json().dump(), spec.mask.to_json().dump());
  return linear_.get(key, [&] {
    return linear_attention::make_linear_plan(spec, communicator_.rank());
  });
}

std::shared_ptr<const planner::PlanFile> GroupState::plan_file(
    const std::string& path) {
  std::error_code absent;  // said below, and better
  const auto written = std::filesystem::last_write_time(path, absent);
  const std::string key =
      fmt::format("{} {}", written.time_since_epoch().count(), path);
  return files_.get(key, [&] {
    return std::make_shared<const planner::PlanFile>(
        planner::read_plan_file(path));
  });
}

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
