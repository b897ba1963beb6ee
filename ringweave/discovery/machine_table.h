// A machine from the table that a vendor's tool printed, whichever it is.
#pragma once

#include <string>

#include "ringweave/discovery/class_rates.h"
#include "ringweave/topology/topology.h"

namespace ringweave::discovery {

enum class TableKind { none, nvidia_smi, rocm_smi };

const char* name(TableKind);

/// By what stands in it. What looks like JSON is no table.
TableKind table_kind(const std::string& text);

/// Reads `text` as the table of a kind; `none`: the one that it looks like. See
/// nvidia_smi.h and rocm_smi.h. Throws InvalidArgument as they do, and for a
/// table of another kind, naming the right one.
topology::Topology topology_from_table(const std::string& text, TableKind kind,
                                       const ClassRates& rates,
                                       const std::string& name);

/// A built-in name, a topology file or such a table. With a kind, only a table
/// of this kind, from anything that can be read. Throws InvalidArgument for
/// rates of what is no table.
topology::Topology load_machine(const std::string& name_or_path,
                                TableKind kind = TableKind::none,
                                const ClassRates& rates = {});

}  // namespace ringweave::discovery
