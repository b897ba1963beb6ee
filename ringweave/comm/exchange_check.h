// For tests: runs a strategy with integers in place of tensors.
#pragma once

#include "ringweave/comm/communicator.h"
#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/strategy/strategy.h"

namespace ringweave::comm {

/// Forward and backward of this rank; every rank must call it. Each unit is one
/// 8-byte integer that tells where it comes from. Throws InternalError unless
/// every tile finds the right values, exactly the needed parts are computed,
/// each owner gets exactly the sum of all contributions to its gradient, and
/// this rank's traffic on every link is the schedule's. Resets the traffic.
void check_exchange(const schedule::Strategy& strategy,
                    const schedule::AttentionDemand& demand,
                    Communicator& communicator);

}  // namespace ringweave::comm
