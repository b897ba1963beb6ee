// The ranks of a process group that PyTorch made: torchrun, or any program
// that called init_process_group.
//
// Only Gloo on host memory was run. A message goes to the back end that the
// group has for its buffer's device; the Communicator's own collectives are in
// host memory.
#pragma once

#include <memory>
#include <string>

#include "ringweave/comm/communicator.h"
#include "ringweave/comm/engine.h"
#include "ringweave/comm/transport.h"

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

/// A rank of that group, whose waits have the group's own time-out: what
/// init_process_group(timeout=…) said.
Communicator c10d_communicator(const std::string& group_name);

/// Ranks of that group, or threads of this process for an empty name.
Engine c10d_engine(const std::string& group_name);

}  // namespace ringweave::comm
