// The machine that `rocm-smi --showtopo` describes.
//
// Its tables have, for each two GPUs, a weight, hops and the type of the link.
// The driver adds 15 to the weight for each xGMI link on the way and 20 for
// each part of a way over PCIe: GPU to host, host to host, host to GPU
// (github.com/ROCm/rocm-systems/pull/7372). "Hops" are none: they are 1 for
// every way over xGMI, however long.
#pragma once

#include <string>

#include "ringweave/discovery/class_rates.h"
#include "ringweave/topology/topology.h"

namespace ringweave::discovery {

/// XGMI 48e9 (usable of the 64e9 of a link of MI300X), PCIE 31.5e9 (4.0 x16),
/// NUMA, between hosts, 32e9 (an xGMI link of EPYC: 16 lanes of 16 GT/s).
ClassRates default_rocm_rates();

/// Reads the tables in `text`, which may have other lines beside them. GPUs are
/// ranks. An xGMI link joins two GPUs of type XGMI and weight 15; farther ones
/// are reached through GPUs. If every pair has one, the result is a mesh. GPUs
/// of type PCIE hang on hosts, by weight and NUMA node. Assumptions stand as
/// notes in the topology's source.
///
/// `rates` overrides the defaults; `name` stands for the file in errors and
/// becomes the topology's. Throws InvalidArgument for a rate of no class, of
/// one that no link has or out of range, for text without such tables, with a
/// table twice, or without weights and types of several GPUs, and for cells
/// that are missing, make no sense or differ from those of the way back.
topology::Topology topology_from_rocm_smi(const std::string& text,
                                          const ClassRates& rates,
                                          const std::string& name);

}  // namespace ringweave::discovery
