// Proves that a schedule does its work, by playing it.
//
// All of them accept any numbers, such as a file may hold. They throw
// InvalidArgument naming the first transfer or tile that is missing, doubled or
// impossible, in the order of steps; what is missing without being used later
// is found at the end.
#pragma once

#include "ringweave/schedule/demand.h"
#include "ringweave/schedule/exchange/scan_demand.h"
#include "ringweave/schedule/schedule.h"

namespace ringweave::schedule {

/// Dissemination (softmax), a whole schedule of payloads kv and kv_grad.
/// Forward: senders hold what they send, at the time they send it; no slot is
/// written while it is sent from, received into or computed from; no rank
/// receives a part twice, or one that it neither uses nor passes on; every rank
/// computes exactly once each part that it needs, from a slot that holds it,
/// and nothing else; what is retained is there at the end. Backward also: it
/// starts with what is retained; every contribution to a part's gradient
/// reaches its owner exactly once.
void validate(const Schedule& schedule, const Demand& demand, int strands);

/// Only that every number of the schedule is in range, its block list is sorted
/// and right, and every part that it names is listed: enough to play it,
/// whatever it achieves.
void validate_form(const Schedule& schedule, const Demand& demand, int strands);

/// Dissemination of summaries (linear, all-gather): the same of payload summary
/// without tiles; every rank that needs a part receives it exactly once, and
/// retains all that it receives.
void validate_scan(const Schedule& schedule, const Demand& demand, int strands);

/// Scan (linear; chains and all others in which ranks compose): the same, and a
/// rank sends a block of its own only when it can compose it of its own
/// segments and of what has arrived by then, with the decays that this takes.
/// In the end every rank can compose its results (ScanDemand::results()).
/// Action copy is for the state after all segments, with which the receiver
/// composes nothing.
void validate_scan(const Schedule& schedule, const ScanDemand& demand);

}  // namespace ringweave::schedule
