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

/// A fabric explains a pattern if its time, or one between the quartiles of the
/// measured ones, is off by no more than this factor. Fabrics that differ do so
/// by a factor of at least 1.5 somewhere.
inline constexpr double kTolerance = 1.25;
/// Quartiles farther apart than this factor tell nothing.
inline constexpr double kMaxSpread = 1.5;
/// Fewer rounds tell no spread.
inline constexpr int kLeastRounds = 3;

struct Classification {
  topology::Topology topology;  ///< measured() has all of this, as JSON
  std::optional<topology::FabricKind> kind;  ///< nullopt: a measured matrix
  std::string reason;                        ///< a sentence without full stop
};

/// Two ranks are called a mesh: a switch would be the same. Throws
/// InvalidArgument for fewer than 2 ranks or times that are not positive.
Classification classify(const Measurements& measurements);

}  // namespace ringweave::discovery
