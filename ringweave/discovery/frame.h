// Fits the rates of a known machine to what a probe measured.
//
// The frame tells which links there are, from a table of a vendor's tool or a
// file; its rates are assumptions. A link is at least as fast as the most that
// went through it in any pattern, and no faster if it was the busiest of one.
// So the most that was seen becomes its rate: on the result no pattern takes
// longer than measured, and patterns that a link of the frame limits take as
// long.
#pragma once

#include "ringweave/discovery/classify.h"
#include "ringweave/discovery/measurements.h"
#include "ringweave/topology/topology.h"

namespace ringweave::discovery {

/// `frame` with measured rates and latencies; rank r is its r-th rank. Links of
/// the same class and assumed rate get one rate, the median of theirs, if that
/// explains the measurements (a regular fabric then stays one), else each its
/// own. Latencies are one per class, told by the shortest routes. Kinds of
/// links that no route takes keep what they have; the reason names them, and
/// says whether the frame explains what was measured. Throws InvalidArgument
/// for another number of ranks than measured, and as classify() does.
Classification fit_frame(const Measurements& measurements,
                         const topology::Topology& frame);

}  // namespace ringweave::discovery
