// What `ringweave simulate` prints of one pass.
#pragma once

#include <string>

#include "ringweave/base/json.h"
#include "ringweave/schedule/schedule.h"
#include "ringweave/sim/timeline.h"
#include "ringweave/topology/topology.h"

namespace ringweave::cli {

/// {"pass", "seconds" (null: never ends), "transfer_bound_seconds", "ratio",
/// "compute_seconds", "exposed_seconds", "messages", "link_classes",
/// "busiest_links", "stuck"}. compute_seconds are those of the rank that
/// computes longest; ratio is seconds over the larger of these and the bound.
/// Of a pass that never ends all figures of the whole pass are null; bytes and
/// busy times count the messages that arrived.
Json to_json(const sim::Timeline& timeline, const topology::Topology& topology,
             schedule::Pass pass, double transfer_bound);

/// That as lines of text.
std::string pass_text(const Json& pass);

}  // namespace ringweave::cli
