// Independent pieces of work on all cores.
#pragma once

#include <functional>

namespace ringweave {

/// Calls task(0) … task(count - 1), once each and in no set order, on as many
/// threads as this process may use cores. Returns when all have ended. What a
/// task throws is thrown here; those not yet begun are then left out.
void for_each_on_all_cores(int count, const std::function<void(int)>& task);

}  // namespace ringweave
