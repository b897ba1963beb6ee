// The ranks of a process group that PyTorch made: torchrun, or any program
// that called init_process_group.
//
// Only Gloo on host memory was run. A message goes to the back end that the
// group has for its buffer's device; the Communicator's own collectives are in
// host memory.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include <c10/util/intrusive_ptr.h>

#include "ringweave/comm/communicator.h"
#include "ringweave/comm/engine.h"
#include "ringweave/comm/transport.h"

namespace c10d {
class ProcessGroup;
}

namespace ringweave::comm {

/// A transport over the process group of that name, "0" for the default one.
/// Throws InvalidArgument if there is none. Not collective.
///
/// An error is fatal for the group: Gloo then closes all connections of the
/// process, so that its peers' waits fail, too. Messages of one pair must have
/// the same length on both sides: Gloo ends a process that gets more bytes than
/// it wants, and can't tell when it gets fewer.
///
/// The mark of the first failed rank lies in the group's store, where it has
/// one; if the store does not answer within a second or two it is done without.
///
/// A message keeps its buffer's owner for as long as the back end keeps its
/// tensor, also when the wait for it failed.
std::shared_ptr<Transport> c10d_transport(const std::string& group_name);

/// The same over a group that need not be registered. Messages of one `tag`
/// match those of the same tag alone, on back ends that know tags, as Gloo.
/// `mark`: of the key of the first failed rank; the same on all ranks, and
/// another for each group that shares a store. `store_host`: the rank whose
/// process has the store, if known; it has failed if the store does not answer.
std::shared_ptr<Transport> c10d_transport(
    c10::intrusive_ptr<c10d::ProcessGroup> group, const std::string& mark,
    int tag = 0, std::optional<Rank> store_host = std::nullopt);

/// Ranks of the group of that name, or threads of this process for an empty
/// name.
Engine c10d_engine(const std::string& group_name,
                   std::optional<Rank> store_host = std::nullopt);

}  // namespace ringweave::comm
