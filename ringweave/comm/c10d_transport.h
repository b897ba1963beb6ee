// The ranks of a process group that PyTorch made: torchrun, or any program
// that called init_process_group.
//
// Only Gloo on CPU memory was run. Nothing here depends on it, but memory is
// taken to be on the group's device, and the Communicator's own collectives use
// CPU memory.
#pragma once

#include <memory>
#include <string>

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
std::shared_ptr<Transport> c10d_transport(const std::string& group_name);

}  // namespace ringweave::comm
