#pragma once

#include <utility>

#include "ringweave/comm/communicator.h"
#include "ringweave/comm/local_ranks.h"
#include "ringweave/discovery/probe.h"
#include "ringweave/emulation/emulated_links.h"
#include "ringweave/topology/topology.h"

namespace ringweave::discovery {

/// For tests: what the ranks measure on a model of `links`, in no time.
inline Measurements measured_on(const topology::Topology& links,
                                const ProbeOptions& options = {
                                    .sizes = {1000, 100'000}, .repeats = 3}) {
  Measurements result;
  comm::run_ranks(
      links.ranks(),
      [&](Rank rank, auto transport) {
        comm::Communicator communicator(std::move(transport));
        Measurements numbers = probe(communicator, options);
        if (rank == 0) result = std::move(numbers);
      },
      {},
      [&](comm::Transports ranks) {
        return emulation::emulated_links(std::move(ranks), links);
      });
  return result;
}

}  // namespace ringweave::discovery
