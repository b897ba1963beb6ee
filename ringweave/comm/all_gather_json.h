// Small values of all ranks.
#pragma once

#include <vector>

#include "ringweave/base/json.h"
#include "ringweave/comm/communicator.h"

namespace ringweave::comm {

/// Every rank's value, in rank order. As Communicator::all_gather(). It travels
/// as CBOR, which machines of every byte order read alike.
std::vector<Json> all_gather_json(const Json& mine, Communicator& communicator);

}  // namespace ringweave::comm
