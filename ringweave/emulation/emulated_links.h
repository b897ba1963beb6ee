// Local ranks that pretend to be a machine: a decorator of their transports.
#pragma once

#include "ringweave/comm/transport.h"
#include "ringweave/topology/topology.h"

namespace ringweave::emulation {

/// Messages take the time that `links` need for them, by a clock of their own
/// (link_model.h, Transport::seconds); time-outs stay real time. The clock
/// stands still while a rank computes, so that a result depends on no
/// scheduler. See comm/holding.h for what a buffer shows until its message is
/// there. Throws InvalidArgument unless the topology has as many ranks, with a
/// route between any two.
comm::Transports emulated_links(comm::Transports ranks,
                                topology::Topology links);

}  // namespace ringweave::emulation
