// Timelines as traces that Perfetto (ui.perfetto.dev) and chrome://tracing
// open.
#pragma once

#include <string>
#include <vector>

#include "ringweave/sim/timeline.h"
#include "ringweave/topology/topology.h"

namespace ringweave::sim {

/// A JSON object in the Chrome trace format, times in microseconds. Rows: the
/// passes, each rank's tiles, each rank's waits, each link's bytes per second
/// (of timelines with rates), and the messages on each link from their start to
/// their end; a link on which messages overlap has as many rows of them as it
/// needs, one without messages none. Passes follow one another; what never
/// ended is left out, and so are tiles that take no time, and passes after one
/// that did not end.
std::string chrome_trace(const std::vector<Timeline>& passes,
                         const topology::Topology& topology);

}  // namespace ringweave::sim
