// Ranks tell each other whether they could do their parts.
#pragma once

#include <string>

#include "ringweave/comm/communicator.h"

namespace ringweave::comm {

/// `fault`: why this rank could not do its part, or "". Returns "" if all
/// could, or else, on all ranks alike, the fault of the first that could not,
/// which is named unless all have the same. A collective of the communicator.
std::string first_fault(const std::string& fault, Communicator& communicator);

}  // namespace ringweave::comm
