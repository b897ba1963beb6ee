#include "python/group.h"

#include <chrono>
#include <map>
#include <mutex>
#include <utility>

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/distributed/c10d/GroupRegistry.hpp>

#include "ringweave/base/error.h"
#include "ringweave/comm/c10d_transport.h"

namespace ringweave::python {
namespace {

// Tags of the two kinds of messages, which must not meet.
constexpr int kData = 0;
constexpr int kControl = 1;

struct Served {
  c10::weak_intrusive_ptr<c10d::ProcessGroup> program;
  GroupPtr own;
};

/// By the name of the program's group. Never destroyed: at the end of the
/// process torch's own objects may be gone before.
class Registry {
 public:
  void put(const std::string& name, Served served) {
    const std::lock_guard lock(mutex_);
    groups_.insert_or_assign(name, std::move(served));
  }
  GroupPtr find(const std::string& name,
                const c10::intrusive_ptr<c10d::ProcessGroup>& program) {
    const std::lock_guard lock(mutex_);
    const auto found = groups_.find(name);
    if (found == groups_.end() || found->second.program.lock() != program) {
      return {};
    }
    return found->second.own;
  }
  void remove(const Group* own) {
    const std::lock_guard lock(mutex_);
    std::erase_if(groups_, [&](const auto& entry) {
      return entry.second.own.get() == own;
    });
  }

 private:
  std::mutex mutex_;
  std::map<std::string, Served> groups_;
};

Registry& registry() {
  static auto& registry = *new Registry;
  return registry;
}

c10::intrusive_ptr<c10d::ProcessGroup> programs_group(const std::string& name) {
  try {
    return c10d::resolve_process_group(name);
  } catch (const c10::Error&) {
    throw InvalidArgument(fmt::format(
        "[group] got \"{}\"; want the name of a process group of this program: "
        "there is none, or it was destroyed",
        name));
  }
}

}  // namespace

Group::Group(c10::intrusive_ptr<c10d::ProcessGroup> group,
             const std::string& name, std::int64_t milliseconds,
             const std::string& mode) {
  const std::chrono::milliseconds time_out(milliseconds);
  state_ = std::make_shared<GroupState>(
      GroupState{.communicator = comm::Communicator(
                     comm::c10d_transport(group, name, kData),
                     comm::TimeOuts{.start = time_out, .step = time_out})});
  communicator().set_agreement(std::make_unique<comm::Agreement>(
      comm::c10d_transport(std::move(group), name, kControl), time_out,
      comm::agreement_mode_from_name(mode)));
}

void Group::agree(const std::string& operation,
                  const c10::Dict<std::string, std::string>& facts) const {
  communicator().call(
      operation, 0, [] {},
      [&] {
        comm::Facts all;
        for (const auto& fact : facts) {
          all.emplace_back(fact.key(), fact.value());
        }
        return all;
      },
      [](std::int64_t) {});
}

void Group::set_agreement(const std::string& mode) const {
  communicator().set_agreement_mode(communicator().or_refuse(
      "set_agreement", [&] { return comm::agreement_mode_from_name(mode); }));
}

void Group::close() {
  communicator().leave("it was destroyed");
  registry().remove(this);
}

void serve(const std::string& name, const GroupPtr& own) {
  const auto program = programs_group(name);
  registry().put(name,
                 {c10::weak_intrusive_ptr<c10d::ProcessGroup>(program), own});
}

GroupPtr group_of(const std::string& name) {
  const auto program = programs_group(name);
  if (GroupPtr own = registry().find(name, program)) return own;
  static const auto open = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("ringweave::open_group", "")
                               .typed<void(const std::string&)>();
  open.call(name);
  GroupPtr own = registry().find(name, program);
  ensure(own.defined(), "open_group left no group for \"{}\"", name);
  return own;
}

}  // namespace ringweave::python
