// Messages that take random times, for tests: a decorator of local ranks'
// transports.
#pragma once

#include <chrono>
#include <cstdint>

#include "ringweave/comm/transport.h"

namespace ringweave::comm {

/// Each message is delivered after a random time of up to `max_delay` once both
/// sides have posted it: messages of different pairs overtake each other, those
/// of one pair never do. See holding.h for what a buffer shows until then.
///
/// For a seed, each ordered pair of ranks has its own fixed sequence of delays,
/// whatever the threads do. A thread delivers; it lives as long as a transport
/// or a Work.
Transports delayed(Transports ranks, std::uint64_t seed,
                   std::chrono::microseconds max_delay);

}  // namespace ringweave::comm
