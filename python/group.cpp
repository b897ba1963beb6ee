#include "python/group.h"

#include <chrono>
#include <utility>

#include "ringweave/comm/c10d_transport.h"

namespace ringweave::python {
namespace {

// Tags of the two kinds of messages, which must not meet.
constexpr int kData = 0;
constexpr int kControl = 1;

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

void Group::set_agreement(const std::string& mode) const {
  communicator().set_agreement_mode(communicator().or_refuse(
      "set_agreement", [&] { return comm::agreement_mode_from_name(mode); }));
}

void Group::close() const { communicator().leave("it was destroyed"); }

}  // namespace ringweave::python
