// Proves that a schedule does its work, by playing it.
#pragma once

#include "ringweave/plan/demand.h"
#include "ringweave/plan/schedule.h"

namespace ringweave::plan {

/// Dissemination (softmax). Forward: senders hold what they send, at the time
/// they send it; no slot is overwritten while it is sent from, received into or
/// still to be used; every rank computes exactly once each part that it needs,
/// from a slot that holds it, and nothing else. Backward also: every
/// contribution to a part's gradient reaches its owner exactly once.
/// Throws InvalidArgument naming the first transfer or tile that is missing,
/// doubled or impossible.
void validate(const Schedule& schedule, const Demand& demand, int strands);

/// Ordered scan (linear): every rank that needs a summary receives it exactly
/// once; `compose` transfers form one chain in the order of the segments.
void validate_scan(const Schedule& schedule, const Demand& demand, int strands);

}  // namespace ringweave::plan
