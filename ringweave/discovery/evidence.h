// What measurements say for or against a topology.
#pragma once

#include <string>
#include <vector>

#include "ringweave/discovery/measurements.h"
#include "ringweave/topology/topology.h"

namespace ringweave::discovery {

/// A topology explains a pattern if its time, or one between the quartiles of
/// the measured ones, is off by no more than this factor. Fabrics that differ
/// do so by a factor of at least 1.5 somewhere.
inline constexpr double kTolerance = 1.25;
/// Quartiles farther apart than this factor tell nothing.
inline constexpr double kMaxSpread = 1.5;
/// Fewer rounds tell no spread.
inline constexpr int kLeastRounds = 3;

/// All ordered pairs.
std::vector<RankPair> pairs_of(int ranks);

/// Throws InvalidArgument for fewer than 2 ranks or times that are not
/// positive.
void check(const Measurements& measurements);

/// Why the measurements tell no rates, or no machine could have them, in a
/// sentence without full stop; "" if nothing speaks against them.
std::string doubt_of(const Measurements& measurements);

struct Mismatch {
  double factor = 1;  ///< by which the worst pattern is off
  std::string text;   ///< what that is: '"ring" took 2 s instead of 1 s'
};

/// A pattern takes as long as its busiest link, and a round trip. Links with
/// the same number in `shared` are one.
Mismatch worst_mismatch(const Measurements& measurements,
                        const topology::Topology& topology);

/// The number of a link's capacity: of links that share one, the same.
int capacity_of(const topology::Topology& topology, int link);

}  // namespace ringweave::discovery
