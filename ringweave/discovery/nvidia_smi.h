// The machine that `nvidia-smi topo -m` describes.
//
// That table has classes, not rates: NV4 (four NVLinks), PIX (one PCIe switch),
// PXB (several), PHB (a host bridge), NODE (host bridges of a socket), SYS
// (between sockets). The rates come from the caller, or from defaults.
#pragma once

#include <string>

#include "ringweave/discovery/class_rates.h"
#include "ringweave/topology/topology.h"

namespace ringweave::discovery {

/// NV 25e9 (V100 to H200), PIX, PXB, PHB and NODE 31.5e9 (PCIe 4.0 x16), SYS
/// 20.8e9 (a UPI link of 10.4 GT/s). "NV" is one NVLink, of which NV4 has four;
/// a rate of "NV4" itself goes first.
ClassRates default_class_rates();

/// Reads the table in `text`, which may have other lines before, between and
/// after its own. GPUs are ranks. GPUs with more NVLinks to each other than a
/// GPU has hang on an NVSwitch, which is a regular fabric if it joins all of
/// them alike. Otherwise NVLinks join their two GPUs, over a PCIe tree that
/// follows from the classes and the affinity. NICs of any name, and drives,
/// help to tell that tree; they are left out, as the table doesn't say where
/// they lead. What was assumed, and rows of NICs that can't be used, stand as
/// notes in the topology's source.
///
/// `rates` overrides the defaults; `name` stands for the file in errors and
/// becomes the topology's. Throws InvalidArgument for a rate of no class, of
/// one that no link has or out of range, for text without such a table or with
/// a second one, for GPUs without a row, with cells that are missing or no
/// class, listed twice, told differently in their two rows, or with classes
/// that contradict each other.
topology::Topology topology_from_nvidia_smi(const std::string& text,
                                            const ClassRates& rates,
                                            const std::string& name);

}  // namespace ringweave::discovery
