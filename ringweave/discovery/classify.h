// Which fabric explains what a probe measured.
//
// A fabric explains a measurement if every pattern takes the time that its
// busiest link needs on it. mesh, switch and two levels are tried with the
// rates that single pairs have; the measurements of many pairs at once then
// decide. What none of them explains becomes a measured matrix: a link for each
// pair with its rate alone, and the reason why it is no more than that.
#pragma once

#include <optional>
#include <string>

#include "ringweave/discovery/measurements.h"
#include "ringweave/topology/topology.h"

namespace ringweave::discovery {

struct Classification {
  topology::Topology topology;  ///< measured() has all of this, as JSON
  std::optional<topology::FabricKind> kind;  ///< nullopt: a measured matrix
  std::string reason;                        ///< a sentence without full stop
};

/// Two ranks are called a mesh: a switch would be the same. Throws
/// InvalidArgument for fewer than 2 ranks or times that are not positive.
Classification classify(const Measurements& measurements);

}  // namespace ringweave::discovery
