#include "ringweave/topology/topology_file.h"

#include <filesystem>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/base/file.h"
#include "ringweave/topology/builtin.h"
#include "ringweave/topology/limits.h"

namespace ringweave::topology {
namespace {

constexpr const char* kTopologyFormat = "ringweave.topology";
constexpr int kTopologyVersion = 1;

// ---- writing ----

Json fabric_json(const Fabric& fabric) {
  Json json = {{"kind", name(fabric.kind)},
               {"ranks", fabric.ranks},
               {"link_bytes_per_second", fabric.link_bytes_per_second},
               {"link_latency_seconds", fabric.link_latency_seconds}};
  if (fabric.kind == FabricKind::torus) {
    json["dimensions"] = fabric.dimensions;
  }
  if (fabric.kind == FabricKind::two_level) {
    json["nodes"] = fabric.nodes;
    json["inside"] = name(fabric.inside);
    json["nic_bytes_per_second"] = fabric.nic_bytes_per_second;
    json["nic_latency_seconds"] = fabric.nic_latency_seconds;
    json["nics_per_node"] = fabric.nics_per_node;
  }
  return json;
}

Json link_json(const Topology& topology, const Link& link, const char* duplex) {
  return {{"from", topology.vertex(link.from).name},
          {"to", topology.vertex(link.to).name},
          {"bytes_per_second", link.bytes_per_second},
          {"latency_seconds", link.latency_seconds},
          {"class", link.link_class},
          {"duplex", duplex}};
}

bool same_but_direction(const Link& a, const Link& b) {
  return a.bytes_per_second == b.bytes_per_second &&
         a.latency_seconds == b.latency_seconds &&
         a.link_class == b.link_class && a.shared == b.shared;
}

/// Throws InvalidArgument unless links share their capacity in pairs, the two
/// directions of a cable: a file can say no more.
void check_shared(const Topology& topology) {
  std::map<int, int> counts;
  for (const Link& link : topology.links()) {
    if (link.shared < 0) continue;
    const auto back = topology.link(link.to, link.from);
    require(++counts[link.shared] <= 2 && back &&
                same_but_direction(link, topology.links()[*back]),
            "[topology file] got a link from {} to {} that shares its capacity "
            "with others than its reverse; a file can't say so",
            topology.vertex(link.from).name, topology.vertex(link.to).name);
  }
}

Json links_json(const Topology& topology) {
  check_shared(topology);
  Json links = Json::array();
  std::vector<bool> written(topology.links().size(), false);
  for (std::size_t i = 0; i < topology.links().size(); ++i) {
    if (written[i]) continue;
    const Link& link = topology.links()[i];
    const auto back = topology.link(link.to, link.from);
    const bool both = back && same_but_direction(link, topology.links()[*back]);
    if (both) written[*back] = true;
    links.push_back(link_json(topology, link,
                              !both              ? "simplex"
                              : link.shared >= 0 ? "half"
                                                 : "full"));
  }
  return links;
}

/// Whether the symbolic form says it all.
bool is_its_fabric(const Topology& topology) {
  if (!topology.fabric()) return false;
  const Topology::Spec spec = expanded(*topology.fabric());
  if (spec.ranks_forward != topology.ranks_forward() ||
      spec.links != topology.links() ||
      static_cast<int>(spec.vertices.size()) != topology.vertices()) {
    return false;
  }
  for (int v = 0; v < topology.vertices(); ++v) {
    if (spec.vertices[v] != topology.vertex(v)) return false;
  }
  return true;
}

void add_graph(Json& json, const Topology& topology) {
  json["ranks_forward"] = topology.ranks_forward();
  json["ranks"] = Json::array();
  json["switches"] = Json::array();
  for (int v = 0; v < topology.vertices(); ++v) {
    const Vertex& vertex = topology.vertex(v);
    Json item = {{"name", vertex.name}, {"node", vertex.node}};
    if (vertex.kind == VertexKind::rank) {
      json["ranks"].push_back(std::move(item));
    } else {
      item["kind"] = name(vertex.kind);
      json["switches"].push_back(std::move(item));
    }
  }
  json["links"] = links_json(topology);
}

// ---- reading ----

double rate(JsonObject& object, const std::string& key) {
  const double value =
      object.number(key, -std::numeric_limits<double>::infinity());
  require(is_rate(value), "[{}.{}] got {}; want {} … {}", object.path(), key,
          value, kMinBytesPerSecond, kMaxBytesPerSecond);
  return value;
}

double latency(JsonObject& object, const std::string& key) {
  const double value =
      object.number(key, -std::numeric_limits<double>::infinity(), 0);
  require(is_latency(value), "[{}.{}] got {}; want 0 … {}", object.path(), key,
          value, kMaxLatencySeconds);
  return value;
}

int small_integer(JsonObject& object, const std::string& key, int min,
                  std::optional<std::int64_t> fallback = {}) {
  constexpr std::int64_t kMost = 1 << 30;
  const std::int64_t value = object.integer(key, min, fallback);
  require(value <= kMost, "[{}.{}] got {}; want at most {}", object.path(), key,
          value, kMost);
  return static_cast<int>(value);
}

FabricKind fabric_kind(const std::string& word) {
  for (const FabricKind kind :
       {FabricKind::mesh, FabricKind::switch_, FabricKind::ring,
        FabricKind::torus, FabricKind::two_level}) {
    if (word == name(kind)) return kind;
  }
  throw InternalError("bug in ringweave: a fabric of no kind");
}

Fabric read_fabric(JsonObject object) {
  Fabric fabric;
  fabric.kind = fabric_kind(
      object.choice("kind", {"mesh", "switch", "ring", "torus", "two_level"}));
  fabric.ranks = small_integer(object, "ranks", 1);
  fabric.link_bytes_per_second = rate(object, "link_bytes_per_second");
  fabric.link_latency_seconds = latency(object, "link_latency_seconds");
  if (fabric.kind == FabricKind::torus) {
    for (const std::int64_t side : object.integers("dimensions")) {
      require(side >= 2 && side <= fabric.ranks,
              "[{}.dimensions] got a side of {}; want 2 to {}", object.path(),
              side, fabric.ranks);
      fabric.dimensions.push_back(static_cast<int>(side));
    }
  }
  if (fabric.kind == FabricKind::two_level) {
    fabric.nodes = small_integer(object, "nodes", 1);
    fabric.inside = fabric_kind(object.choice("inside", {"mesh", "switch"}));
    fabric.nic_bytes_per_second = rate(object, "nic_bytes_per_second");
    fabric.nic_latency_seconds = latency(object, "nic_latency_seconds");
    fabric.nics_per_node =
        small_integer(object, "nics_per_node", 1, fabric.ranks_per_node());
  }
  object.done();
  try {
    check(fabric);
  } catch (const InvalidArgument& error) {
    throw InvalidArgument(fmt::format("[{}] {}", object.path(), error.what()));
  }
  return fabric;
}

/// Names that links may use, in the order of their vertices.
class Names {
 public:
  void add(const std::string& name, const std::string& path) {
    require(numbers_.emplace(name, static_cast<int>(all_.size())).second,
            "[{}.name] got \"{}\" a second time; want each name once", path,
            name);
    all_.push_back(name);
  }

  int find(const std::string& name, const std::string& path) const {
    const auto found = numbers_.find(name);
    if (found != numbers_.end()) return found->second;
    const auto near = nearest(name, all_);
    throw InvalidArgument(fmt::format(
        "[{}] got \"{}\"; want a rank or switch of this file{}", path, name,
        near ? fmt::format(", such as \"{}\"", *near) : std::string()));
  }

 private:
  std::map<std::string, int> numbers_;
  std::vector<std::string> all_;
};

const Json& array(JsonObject& object, const std::string& key) {
  const Json& json = object.value(key);
  require(json.is_array(), "[{}.{}] got no list; want a list […] of objects",
          object.path(), key);
  return json;
}

std::string item_path(const JsonObject& object, const std::string& key,
                      std::size_t i) {
  return fmt::format("{}.{}[{}]", object.path(), key, i);
}

VertexKind passing_kind(const std::string& word) {
  if (word == name(VertexKind::nic)) return VertexKind::nic;
  if (word == name(VertexKind::host)) return VertexKind::host;
  return VertexKind::switch_;
}

/// Graphs are searched from every rank; larger machines are regular fabrics.
constexpr std::size_t kMaxListedRanks = 1024;
constexpr std::size_t kMaxSwitches = 8192;

void read_vertices(JsonObject& object, Topology::Spec& spec, Names& names) {
  const auto read = [&](const std::string& key, bool ranks) {
    const Json& list = array(object, key);
    const std::size_t most = ranks ? kMaxListedRanks : kMaxSwitches;
    require(list.size() <= most,
            "[{}.{}] got {}; want at most {}, or a \"fabric\" in their place",
            object.path(), key, list.size(), most);
    for (std::size_t i = 0; i < list.size(); ++i) {
      JsonObject item(list[i], item_path(object, key, i));
      Vertex vertex;
      vertex.name = item.name("name");
      vertex.node = small_integer(item, "node", ranks ? 0 : -1, 0);
      if (!ranks) {
        vertex.kind = passing_kind(
            item.choice("kind", {"switch", "nic", "host"}, "switch"));
      }
      item.done();
      names.add(vertex.name, item.path());
      spec.vertices.push_back(std::move(vertex));
    }
  };
  read("ranks", true);
  require(!spec.vertices.empty(), "[{}.ranks] got none; want at least 1",
          object.path());
  if (object.has("switches")) read("switches", false);
}

void read_links(JsonObject& object, Topology::Spec& spec, const Names& names) {
  const Json& list = array(object, "links");
  std::set<std::pair<int, int>> seen;
  int shared = 0;
  for (std::size_t i = 0; i < list.size(); ++i) {
    JsonObject item(list[i], item_path(object, "links", i));
    const std::string& path = item.path();
    Link link;
    link.from = names.find(item.string("from"), path + ".from");
    link.to = names.find(item.string("to"), path + ".to");
    link.bytes_per_second = rate(item, "bytes_per_second");
    link.latency_seconds = latency(item, "latency_seconds");
    link.link_class = item.name("class", "link");
    const std::string duplex =
        item.choice("duplex", {"full", "half", "simplex"}, "full");
    item.done();
    const std::string& from = spec.vertices[link.from].name;
    const std::string& to = spec.vertices[link.to].name;
    require(link.from != link.to,
            "[{}] got a link from \"{}\" to itself; want two ends", path, from);
    require(
        seen.emplace(link.from, link.to).second &&
            (duplex == "simplex" || seen.emplace(link.to, link.from).second),
        "[{}] got a second link between \"{}\" and \"{}\"; want one with "
        "the sum of their rates",
        path, from, to);
    if (duplex == "half") link.shared = shared++;
    if (duplex == "simplex") {
      spec.links.push_back(std::move(link));
    } else {
      add_cable(spec, link);
    }
  }
}

/// The fields apart from the graph itself.
struct Head {
  std::string name;
  std::string source;
  std::optional<Fabric> fabric;
  Json measured;
};

Head read_head(JsonObject& object) {
  Head head;
  check_format(object, kTopologyFormat, kTopologyVersion);
  head.name = object.name("name");
  head.source = object.line("source", "");
  if (object.has("measured")) {
    head.measured = object.value("measured");
    require(head.measured.is_object(),
            "[{}.measured] got no object; want an object {{…}}", object.path());
  }
  if (object.has("fabric")) {
    head.fabric = read_fabric(object.object("fabric"));
    for (const char* key : {"ranks", "switches", "links", "ranks_forward"}) {
      require(!object.has(key),
              "[{}.{}] got it beside \"fabric\"; want one or the other",
              object.path(), key);
    }
    object.done();
  }
  return head;
}

bool names_file(const std::string& text) {
  std::error_code error;
  return text.ends_with(".json") ||
         (std::filesystem::exists(text, error) &&
          !std::filesystem::is_directory(text, error));
}

Json read_topology_json(const std::string& path) {
  const std::string text = read_file(path, "a readable JSON file");
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  const bool json = first != std::string::npos && text[first] == '{';
  std::string narrow = text;  // of UTF-16 that is ASCII
  std::erase(narrow, '\0');
  require(json || narrow.find("GPU0") == std::string::npos,
          "[{0}] got what looks like a table of nvidia-smi or rocm-smi; want a "
          "topology file: convert it with `ringweave topology show {0} --save "
          "FILE`",
          path);
  return parse_json(text, path);
}

}  // namespace

Json to_json(const Topology& topology) {
  Json json = {{"format", kTopologyFormat},
               {"version", kTopologyVersion},
               {"name", topology.name()},
               {"source", topology.source()}};
  if (!topology.measured().is_null()) json["measured"] = topology.measured();
  if (is_its_fabric(topology)) {
    json["fabric"] = fabric_json(*topology.fabric());
  } else {
    add_graph(json, topology);
  }
  return json;
}

Topology topology_from_json(const Json& json, const std::string& name) {
  JsonObject object(json, name);
  Head head = read_head(object);
  Topology::Spec spec;
  if (head.fabric) spec = expanded(*head.fabric);
  spec.name = std::move(head.name);
  spec.source = std::move(head.source);
  spec.measured = std::move(head.measured);
  if (head.fabric) return Topology(std::move(spec));

  spec.ranks_forward = object.boolean("ranks_forward", false);
  Names names;
  read_vertices(object, spec, names);
  read_links(object, spec, names);
  object.done();
  Topology topology(std::move(spec));
  try {
    topology.check_connected();
  } catch (const InvalidArgument& error) {
    throw InvalidArgument(fmt::format("[{}] {}", name, error.what()));
  }
  return topology;
}

Topology load_topology(const std::string& name_or_path) {
  if (!names_file(name_or_path)) return builtin(name_or_path);
  return topology_from_json(read_topology_json(name_or_path), name_or_path);
}

std::optional<Fabric> load_fabric(const std::string& name_or_path) {
  if (!names_file(name_or_path)) return builtin_fabric(name_or_path);
  const Json json = read_topology_json(name_or_path);
  JsonObject object(json, name_or_path);
  return read_head(object).fabric;
}

}  // namespace ringweave::topology
