// Timelines as traces that Perfetto (ui.perfetto.dev) and chrome://tracing
// open.
#pragma once

#include <string>
#include <vector>

#include "ringweave/sim/timeline.h"
#include "ringweave/topology/topology.h"

namespace ringweave::sim {

/// A JSON object in the Chrome trace format, times in microseconds. Rows: each
/// rank's tiles, each rank's waits, and the messages on each link from their
/// start to their end; a link on which messages overlap has as many rows as it
/// needs. Passes follow one another; what never ended is left out, and so are
/// passes after one that did not end.
std::string chrome_trace(const std::vector<Timeline>& passes,
                         const topology::Topology& topology);

}  // namespace ringweave::sim
