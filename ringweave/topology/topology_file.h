// Topologies as JSON files.
//
//   {"format": "ringweave.topology", "version": 1, "name": "pair",
//    "ranks": [{"name": "gpu0", "node": 0}, …], "switches": […],
//    "links": [{"from": "gpu0", "to": "gpu1", "bytes_per_second": 50e9, …}]}
#pragma once

#include <string>

#include "ringweave/base/json.h"
#include "ringweave/topology/topology.h"

namespace ringweave::topology {

Json to_json(const Topology& topology);
/// Throws InvalidArgument naming the first field that can't be used; `name`
/// stands for the file in errors. The result is connected.
Topology topology_from_json(const Json& json, const std::string& name);

/// What --topology takes: a file, if there is one of that name or it ends with
/// ".json", else a name of builtin().
Topology load_topology(const std::string& name_or_path);

}  // namespace ringweave::topology
