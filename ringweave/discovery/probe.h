// Measures what the links between ranks give, alone and together.
//
//   const Measurements numbers = probe(communicator, {});
//   const auto found = classify(numbers);
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "ringweave/comm/communicator.h"
#include "ringweave/discovery/measurements.h"

namespace ringweave::discovery {

/// Of the receive buffers of a rank, which gets from all others at once.
inline constexpr std::int64_t kMaxProbeBufferBytes = std::int64_t{4} << 30;

struct ProbeOptions {
  /// Bytes of a message; the largest tells the rate.
  std::vector<std::int64_t> sizes = {65'536, 1'048'576, 8'388'608};
  int repeats = 5;       ///< at most; fewer if the time is up
  double seconds = 120;  ///< real time, of which no more than one message or
                         ///< pattern is exceeded
  /// Called on rank 0 only, with a line about what comes next.
  std::function<void(const std::string&)> note = {};
  /// Called on rank 0 before each measurement; what it throws ends the probe.
  std::function<void()> poll = {};
};

/// Throws InvalidArgument naming the first option that can't be used by that
/// many ranks.
void check(const ProbeOptions& options, int ranks);

/// Every member must call it with the same options, nothing else under way; all
/// get the same result. Blocking. Each measurement begins when all ranks are
/// there, so a pair that is measured alone is alone. The patterns are measured
/// once unrecorded with the smallest size, then at every size in each round; if
/// they show groups, those of groups follow. Throws InvalidArgument if the time
/// does not suffice for one round, CommError as Communicator does.
Measurements probe(comm::Communicator& communicator, ProbeOptions options);

}  // namespace ringweave::discovery
