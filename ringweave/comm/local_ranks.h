// Runs ranks as threads of one process.
//
//   run_ranks(4, [&](Rank rank, std::shared_ptr<Transport> transport) {
//     Communicator communicator(std::move(transport));
//     …
//   });
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "ringweave/comm/faulty.h"
#include "ringweave/comm/transport.h"

namespace ringweave::comm {

using RankFunction = std::function<void(Rank, std::shared_ptr<Transport>)>;

/// What tests do to the messages (delayed.h) and ranks (faulty.h).
struct FaultInjection {
  using At = Faults::At;

  std::uint64_t seed = 0;  ///< of the delays
  std::chrono::microseconds max_delay{0};
  std::optional<At> kill = {};
  std::optional<At> stall = {};
};

/// Runs `function` once per rank, each in a thread of its own, and returns what
/// each of them threw: null for a rank that returned. A rank that throws is
/// marked as failed, so that the others need not wait for it. `wrap`, unless
/// empty, decorates the transports around delays and inside faults.
std::vector<std::exception_ptr> rank_outcomes(int ranks,
                                              const RankFunction& function,
                                              const FaultInjection& faults = {},
                                              const Decorator& wrap = {});

/// The same; rethrows the error of the rank that failed first, rather than a
/// consequence of it at a peer.
void run_ranks(int ranks, const RankFunction& function,
               const FaultInjection& faults = {}, const Decorator& wrap = {});

}  // namespace ringweave::comm
