// Topologies as JSON files.
//
//   {"format": "ringweave.topology", "version": 1, "name": "pair",
//    "ranks": [{"name": "gpu0", "node": 0}, …], "switches": […],
//    "links": [{"from": "gpu0", "to": "gpu1", "bytes_per_second": 50e9, …}]}
//
// or "fabric": {"kind": "two_level", …} in place of ranks, switches and links.
// docs/topologies.md has every field.
#pragma once

#include <optional>
#include <string>

#include "ringweave/base/json.h"
#include "ringweave/topology/fabric.h"
#include "ringweave/topology/topology.h"

namespace ringweave::topology {

/// Reading it again gives the same topology, link by link where both
/// directions of a cable are listed side by side. In symbolic form if that says
/// all. InvalidArgument for links that share a capacity with others than their
/// reverse.
Json to_json(const Topology& topology);
/// Throws InvalidArgument naming the first field that can't be used; `name`
/// stands for the file in errors. The result is connected.
Topology topology_from_json(const Json& json, const std::string& name);

/// What --topology takes: a file, if there is one of that name or it ends with
/// ".json", else a name of builtin().
Topology load_topology(const std::string& name_or_path);

/// The same in symbolic form, without building the links, if it is a regular
/// fabric; nullopt if not.
std::optional<Fabric> load_fabric(const std::string& name_or_path);

}  // namespace ringweave::topology
