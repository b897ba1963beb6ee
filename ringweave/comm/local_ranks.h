// Runs ranks as threads of one process.
//
//   run_ranks(4, [&](Rank rank, std::shared_ptr<Transport> transport) {
//     Communicator communicator(std::move(transport));
//     …
//   });
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <vector>

#include "ringweave/comm/local_transport.h"

namespace ringweave::comm {

using RankFunction = std::function<void(Rank, std::shared_ptr<Transport>)>;

/// Runs `function` once per rank, each in a thread of its own, and returns what
/// each of them threw: null for a rank that returned. A rank that throws is
/// marked as failed, so that the others need not wait for it.
std::vector<std::exception_ptr> rank_outcomes(int ranks,
                                              const RankFunction& function,
                                              FaultInjection faults = {});

/// The same; rethrows the error of the rank that failed first, rather than a
/// consequence of it at a peer.
void run_ranks(int ranks, const RankFunction& function,
               FaultInjection faults = {});

}  // namespace ringweave::comm
