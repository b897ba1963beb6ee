// The machine that `nvidia-smi topo -m` describes.
//
// That table has classes, not rates: NV4 (four NVLinks), PIX (one PCIe switch),
// PXB (several), PHB (a host bridge), NODE (host bridges of a socket), SYS
// (between sockets). The rates come from the caller, or from defaults.
#pragma once

#include <map>
#include <string>

#include "ringweave/topology/topology.h"

namespace ringweave::discovery {

/// Class → bytes per second of one direction. "NV" is one NVLink, of which NV4
/// has four; "NV4" itself goes first.
using ClassRates = std::map<std::string, double>;

/// NV 25e9 (V100 to H100), PIX, PXB, PHB and NODE 31.5e9 (PCIe 4.0 x16), SYS
/// 20.8e9 (a UPI link of 10.4 GT/s).
ClassRates default_class_rates();

/// Reads the table in `text`, which may have other lines before and after it.
/// GPUs are ranks. If all pairs have the same NVLinks, and more than a GPU
/// could have to each of the others, they hang on one NVSwitch: a regular
/// fabric. Otherwise NVLinks join their two GPUs, over a PCIe tree that follows
/// from the classes and the CPU affinity. Where both readings are possible (3
/// or 4 GPUs, NV6 and up), the topology's source says so. NICs of any name help
/// to tell that tree; they are left out, as the table doesn't say where they
/// lead.
///
/// `rates` overrides the defaults; `name` stands for the file in errors and
/// becomes the topology's. Throws InvalidArgument for a rate of no class, of
/// one that doesn't occur or out of range, for text without such a table,
/// missing rows or cells, a device twice, classes that don't exist or
/// contradict each other, and pairs that are told differently in their two
/// rows.
topology::Topology topology_from_nvidia_smi(const std::string& text,
                                            const ClassRates& rates,
                                            const std::string& name);

}  // namespace ringweave::discovery
