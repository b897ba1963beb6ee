// ringweave bench attention --compute emulate: ranks wait as long as a device
// would compute.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ringweave/cli/bench/bench.h"
#include "ringweave/cli/bench/exchange_runs.h"
#include "ringweave/schedule/strategy/strategy.h"
#include "ringweave/topology/topology.h"

namespace ringweave::cli {

/// Begins the errors of `ringweave bench attention`.
inline constexpr const char* kBenchAttentionWhere = "[bench attention]";

struct EmulatedOptions {
  std::string device;    ///< what planner::load_device takes
  std::string topology;  ///< what topology::load_topology takes; may be empty
};

/// Both passes of each strategy, checked.
struct EmulatedAttention {
  BenchOptions options;
  std::int64_t kv_heads = 0;
  EmulatedOptions emulated;
  std::optional<topology::Topology> topology;
  std::vector<Subject> subjects;
  std::map<std::string, std::string> facts;  ///< what the files say
};

/// Strategies by name, or one of a plan, which is called `names.front()`.
/// Throws InvalidArgument for what can't be used, or takes more memory than
/// there is.
EmulatedAttention prepare_emulated(
    const BenchOptions& options, std::int64_t kv_heads,
    const EmulatedOptions& emulated, const std::vector<std::string>& names,
    const std::optional<schedule::Strategy>& planned, int ranks_here);

void run(const EmulatedAttention& attention, const Context& context);

}  // namespace ringweave::cli
