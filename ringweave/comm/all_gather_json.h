// Small values of all ranks.
#pragma once

#include <algorithm>
#include <vector>

#include "ringweave/base/json.h"
#include "ringweave/comm/communicator.h"

namespace ringweave::comm {

/// Every rank's value, in rank order. As Communicator::all_gather(). It travels
/// as CBOR, which machines of every byte order read alike.
std::vector<Json> all_gather_json(const Json& mine, Communicator& communicator);

/// The largest of all ranks' numbers, on every rank.
template <typename T>
T max_over_ranks(T mine, Communicator& communicator) {
  for (const Json& theirs : all_gather_json(mine, communicator)) {
    mine = std::max(mine, theirs.get<T>());
  }
  return mine;
}

}  // namespace ringweave::comm
