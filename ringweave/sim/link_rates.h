// What links carried over time, worked out from when messages moved.
//
// SimGrid tells when a message ends, not at what rate it moved. But between two
// starts or ends the rates are those of the model, max-min fair.
#pragma once

#include <vector>

#include "ringweave/sim/engine.h"
#include "ringweave/sim/timeline.h"

namespace ringweave::sim {

/// Changes of each link's rate, by link and in order of time; none for a link
/// that carries nothing. `messages` are those of the script, with the times of
/// its play on the platform. A message moves from its start plus the latencies
/// of its route until its end; one whose end is not known, until all its bytes
/// have moved or a link of its route fails.
std::vector<std::vector<RateChange>> link_rates(
    const Script& script, const std::vector<MessageTimes>& messages,
    const Platform& platform);

}  // namespace ringweave::sim
