// Steps whose computing is emulated, and what is said of any step's exchanges.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "ringweave/cli/bench/step.h"
#include "ringweave/comm/communicator.h"
#include "ringweave/topology/topology.h"
#include "ringweave/train/spent.h"

namespace ringweave::cli {

/// Runs a step to warm up, calls `warm`, and runs `repeat` others: messages as
/// in training, and ranks that wait for as long as a device would compute.
/// Every rank of the run calls it and gets the same. The optimizer takes no
/// time.
std::vector<train::SpentByAll> run_emulated_steps(
    const Step& step, int repeat, comm::Communicator& communicator,
    const std::function<void()>& warm);

/// Median seconds of a step's exchanges of keys, values and states, each posted
/// all at once and without computing. Every rank of the run calls it and gets
/// the same.
double bare_seconds(const Step& step, int repeat,
                    comm::Communicator& communicator);

/// Seconds that no schedules of these exchanges beat: they follow one another,
/// layer by layer.
double bound_seconds(const Step& step, const topology::Topology& topology);

/// Seconds of a step, of the rank with the most tokens: exchanges by the
/// simulator, sums of gradients by the cost model, beside backward. `topology`
/// is that of all ranks, which split each sequence. Nothing without a
/// simulator.
std::optional<double> predicted_seconds(const Step& step,
                                        const topology::Topology& topology);

}  // namespace ringweave::cli
