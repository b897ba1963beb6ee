#include "ringweave/topology/builtin.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <utility>

#include <fmt/ranges.h>

#include "ringweave/base/error.h"
#include "ringweave/base/json.h"
#include "ringweave/topology/machines.h"

namespace ringweave::topology {
namespace {

constexpr const char* kBuiltinWhere = "[topology]";

/// The options of "name:a=1,b=2". Getters are asked for every option there is,
/// then done() refuses the others.
class Options {
 public:
  Options(std::string name, const std::string& text) : name_(std::move(name)) {
    std::size_t begin = 0;
    while (begin <= text.size()) {
      const std::size_t end = std::min(text.find(',', begin), text.size());
      add(text.substr(begin, end - begin));
      begin = end + 1;
    }
  }
  /// None.
  explicit Options(std::string name) : name_(std::move(name)) {}

  int integer(const std::string& key, int fallback) {
    const auto text = find(key);
    if (!text) return fallback;
    const auto value = whole(*text);
    require(value.has_value(), "{} got {}={} for {}; want a whole number",
            kBuiltinWhere, key, *text, name_);
    return *value;
  }

  /// Plain numbers: 48e9, 1e-6, 400000000000.
  double number(const std::string& key, double fallback) {
    const auto text = find(key);
    if (!text) return fallback;
    double value = 0;
    const char* end = text->data() + text->size();
    const auto [stop, error] = std::from_chars(text->data(), end, value);
    require(error == std::errc() && stop == end && std::isfinite(value),
            "{} got {}={} for {}; want a number such as 48e9", kBuiltinWhere,
            key, *text, name_);
    return value;
  }

  std::string choice(const std::string& key,
                     const std::vector<std::string>& words) {
    const auto text = find(key);
    if (!text) return words.front();
    require(std::find(words.begin(), words.end(), *text) != words.end(),
            "{} got {}={} for {}; want {}", kBuiltinWhere, key, *text, name_,
            fmt::join(words, " or "));
    return *text;
  }

  /// "4x4x2", the sides of a torus.
  std::vector<int> sides(const std::string& key, std::vector<int> fallback) {
    const auto text = find(key);
    if (!text) return fallback;
    std::vector<int> values;
    std::size_t begin = 0;
    while (begin <= text->size()) {
      const std::size_t end = std::min(text->find('x', begin), text->size());
      const auto side = whole(text->substr(begin, end - begin));
      require(side.has_value(),
              "{} got {}={} for {}; want whole numbers with an x between them, "
              "such as 4x4x2",
              kBuiltinWhere, key, *text, name_);
      values.push_back(*side);
      begin = end + 1;
    }
    return values;
  }

  void done() const {
    for (const auto& [key, value] : values_) {
      if (std::find(known_.begin(), known_.end(), key) != known_.end()) {
        continue;
      }
      const auto near = nearest(key, known_);
      throw InvalidArgument(fmt::format(
          "{} got option {} for {}; {}it has {}", kBuiltinWhere, key, name_,
          near ? fmt::format("did you mean {}? ", *near) : std::string(),
          fmt::join(known_, ", ")));
    }
  }

 private:
  void add(const std::string& item) {
    const std::size_t equals = item.find('=');
    require(equals != std::string::npos && equals > 0,
            "{} got option \"{}\" for {}; want key=value", kBuiltinWhere, item,
            name_);
    const std::string key = item.substr(0, equals);
    require(values_.emplace(key, item.substr(equals + 1)).second,
            "{} got option {} twice for {}; want it once", kBuiltinWhere, key,
            name_);
  }

  std::optional<std::string> find(const std::string& key) {
    known_.push_back(key);
    const auto found = values_.find(key);
    if (found == values_.end()) return std::nullopt;
    return found->second;
  }

  static std::optional<int> whole(const std::string& text) {
    int value = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc() || stop != end) return std::nullopt;
    return value;
  }

  std::string name_;
  std::map<std::string, std::string> values_;
  std::vector<std::string> known_;
};

constexpr int kRanks = 8;
constexpr double kRate = 1e9;  ///< of a regular fabric that is given none

Fabric flat(FabricKind kind, Options& options) {
  Fabric fabric;
  fabric.kind = kind;
  fabric.ranks = options.integer("ranks", kRanks);
  fabric.link_bytes_per_second = options.number("rate", kRate);
  fabric.link_latency_seconds = options.number("latency", 0);
  return fabric;
}

Fabric torus(Options& options) {
  Fabric fabric;
  fabric.kind = FabricKind::torus;
  fabric.dimensions = options.sides("dimensions", {4, 4});
  constexpr long long kMany = std::numeric_limits<int>::max();
  long long ranks = 1;
  for (const int side : fabric.dimensions) {
    ranks = std::clamp(ranks * side, 0LL, kMany);
  }
  fabric.ranks = static_cast<int>(ranks);
  fabric.link_bytes_per_second = options.number("rate", kRate);
  fabric.link_latency_seconds = options.number("latency", 0);
  return fabric;
}

Fabric two_level(Options& options) {
  Fabric fabric = flat(FabricKind::two_level, options);
  fabric.nodes = options.integer("nodes", 2);
  fabric.inside = options.choice("inside", {"mesh", "switch"}) == "mesh"
                      ? FabricKind::mesh
                      : FabricKind::switch_;
  const int each = fabric.nodes > 0 ? fabric.ranks_per_node() : 1;
  fabric.nics_per_node = options.integer("nics", each);
  fabric.nic_bytes_per_second = options.number("nic", kRate);
  fabric.nic_latency_seconds = options.number("nic_latency", 0);
  return fabric;
}

/// Nodes of 8 ranks with a NIC each. One node alone has no use for its NICs:
/// it is the mesh or switch alone.
Fabric nodes_of_8(Options& options, FabricKind inside, double rate,
                  double nic) {
  Fabric fabric;
  fabric.nodes = options.integer("nodes", 1);
  constexpr int kMost = 1 << 20;
  require(fabric.nodes >= 1 && fabric.nodes <= kMost,
          "{} got {} nodes; want 1 to {}", kBuiltinWhere, fabric.nodes, kMost);
  fabric.ranks = 8 * fabric.nodes;
  fabric.link_bytes_per_second = options.number("rate", rate);
  fabric.link_latency_seconds = options.number("latency", 0);
  fabric.inside = inside;
  fabric.nic_bytes_per_second = options.number("nic", nic);
  fabric.nic_latency_seconds = options.number("nic_latency", 0);
  fabric.nics_per_node = 8;
  fabric.kind = FabricKind::two_level;
  check(fabric);
  if (fabric.nodes > 1) return fabric;
  return {.kind = inside,
          .ranks = 8,
          .link_bytes_per_second = fabric.link_bytes_per_second,
          .link_latency_seconds = fabric.link_latency_seconds};
}

Fabric nvl72(Options& options) {
  Fabric fabric;
  fabric.kind = FabricKind::switch_;
  fabric.ranks = 72;
  fabric.link_bytes_per_second = options.number("rate", 900e9);
  fabric.link_latency_seconds = options.number("latency", 0);
  return fabric;
}

Topology::Spec dgx_1(Options& options) {
  CubeMeshRates rates;
  rates.nvlink_bytes_per_second =
      options.number("nvlink", rates.nvlink_bytes_per_second);
  rates.pcie_bytes_per_second =
      options.number("pcie", rates.pcie_bytes_per_second);
  rates.socket_bytes_per_second =
      options.number("qpi", rates.socket_bytes_per_second);
  rates.latency_seconds = options.number("latency", 0);
  return cube_mesh(rates);
}

Topology::Spec pcie_2x4(Options& options) {
  PcieBox box;
  box.switches = options.choice("attach", {"root", "switch"}) == "switch";
  box.pcie_bytes_per_second = options.number("pcie", box.pcie_bytes_per_second);
  box.socket_bytes_per_second =
      options.number("upi", box.socket_bytes_per_second);
  box.latency_seconds = options.number("latency", 0);
  return pcie_box(box);
}

struct Builtin {
  BuiltinName name;
  /// One of the two.
  std::function<Fabric(Options&)> fabric;
  std::function<Topology::Spec(Options&)> spec;
};

std::vector<Builtin> regular() {
  const auto of = [](FabricKind kind) {
    return [kind](Options& options) { return flat(kind, options); };
  };
  const char* options = "ranks=8,rate=1e9,latency=0";
  return {
      {{"mesh", options, "a link between each two ranks", ""},
       of(FabricKind::mesh),
       {}},
      {{"switch", options, "a port of each rank into one non-blocking switch",
        ""},
       of(FabricKind::switch_),
       {}},
      {{"ring", options, "links to the ranks before and after", ""},
       of(FabricKind::ring),
       {}},
      {{"torus", "dimensions=4x4,rate=1e9,latency=0",
        "a grid of 2 or 3 dimensions whose lines are rings", ""},
       torus,
       {}},
      {{"two_level",
        "ranks=8,nodes=2,inside=mesh|switch,rate=1e9,latency=0,nics=RANKS PER "
        "NODE,nic=1e9,nic_latency=0",
        "nodes, a mesh or switch inside, joined by NICs; ranks of all nodes",
        ""},
       two_level,
       {}}};
}

std::vector<Builtin> machines() {
  return {
      {{"8xMI300X", "nodes=1,rate=48e9,latency=0,nic=50e9,nic_latency=0",
        "8 MI300X, a link of Infinity Fabric between each two; further nodes "
        "by a 400 Gb/s NIC each",
        "a link has 64 GB/s raw each way, of which CRC and protocol leave "
        "about 48: the usable rate is taken, as no payload sees the other "
        "(rocm.blogs.amd.com/software-tools-optimization/mi300x-rccl-xgmi); "
        "NICs are not part of the platform, 400 Gb/s is assumed"},
       [](Options& options) {
         return nodes_of_8(options, FabricKind::mesh, 48e9, 50e9);
       },
       {}},
      {{"dgx-a100", "nodes=1,rate=300e9,latency=0,nic=25e9,nic_latency=0",
        "8 A100 on NVSwitch, 12 NVLinks of 25 GB/s each; a 200 Gb/s NIC each",
        "NVSwitch 600 GB/s a GPU, both directions together, 4.8 TB/s in all; "
        "8 ConnectX-6 of 200 Gb/s "
        "(developer.nvidia.com/blog/defining-ai-innovation-with-dgx-a100)"},
       [](Options& options) {
         return nodes_of_8(options, FabricKind::switch_, 300e9, 25e9);
       },
       {}},
      {{"dgx-h100", "nodes=1,rate=450e9,latency=0,nic=50e9,nic_latency=0",
        "8 H100 on NVSwitch, 18 NVLinks of 25 GB/s each; a 400 Gb/s NIC each",
        "NVSwitch 900 GB/s a GPU, both directions together, 7.2 TB/s in all; "
        "8 ConnectX-7 ports of 400 Gb/s (docs.nvidia.com/dgx/dgxh100-user-"
        "guide, developer.nvidia.com/blog/introducing-nvidia-hgx-h100)"},
       [](Options& options) {
         return nodes_of_8(options, FabricKind::switch_, 450e9, 50e9);
       },
       {}},
      {{"dgx-1", "nvlink=25e9,pcie=15.75e9,qpi=38.4e9,latency=0",
        "8 V100, a hybrid cube mesh of 24 NVLinks over a PCIe tree with two "
        "CPU sockets",
        "6 NVLinks a GPU of 25 GB/s each way "
        "(nvidia.com/en-us/data-center/nvlink); who is joined to whom, and "
        "the PCIe 3.0 x16 tree: github.com/NVIDIA/nccl/issues/671; 2 QPI links "
        "of 9.6 GT/s, 19.2 GB/s each way"},
       {},
       dgx_1},
      {{"pcie-2x4", "attach=root|switch,pcie=31.5e9,upi=44.8e9,latency=0",
        "8 GPUs on PCIe 4.0 x16, four to each of two sockets, at root ports "
        "or behind a switch",
        "PCIe 4.0: 16 GT/s, 16 lanes, 128b/130b; 2 UPI links of 11.2 GT/s, "
        "22.4 GB/s each way. Line rates: NCCL reckons with 24 GB/s for PCIe "
        "4.0 x16 and 10 GB/s between sockets "
        "(github.com/NVIDIA/nccl-tests/issues/307)"},
       {},
       pcie_2x4},
      {{"nvl72", "rate=900e9,latency=0",
        "72 GPUs of a GB200 NVL72 rack on NVLink switches",
        "1.8 TB/s a GPU, both directions together, 130 TB/s in all "
        "(aiwiki.ai/wiki/nvidia_gb200_nvl72, after "
        "nvidia.com/en-us/data-center/"
        "gb200-nvl72)"},
       nvl72,
       {}}};
}

const std::vector<Builtin>& builtins() {
  static const std::vector<Builtin> all = [] {
    std::vector<Builtin> list = regular();
    for (Builtin& machine : machines()) list.push_back(std::move(machine));
    return list;
  }();
  return all;
}

struct Chosen {
  const Builtin* builtin;
  Options options;
};

Chosen choose(const std::string& text) {
  const std::size_t colon = std::min(text.find(':'), text.size());
  const std::string name = text.substr(0, colon);
  std::vector<std::string> names;
  for (const Builtin& builtin : builtins()) {
    if (builtin.name.name == name) {
      if (colon == text.size()) return {&builtin, Options(name)};
      return {&builtin, Options(name, text.substr(colon + 1))};
    }
    names.push_back(builtin.name.name);
  }
  const auto near = nearest(name, names);
  throw InvalidArgument(fmt::format(
      "{} got \"{}\"; {}want a file or one of {}", kBuiltinWhere, name,
      near ? fmt::format("did you mean {}? ", *near) : std::string(),
      fmt::join(names, ", ")));
}

}  // namespace

Topology builtin(const std::string& text) {
  Chosen chosen = choose(text);
  const std::optional<Fabric> fabric = builtin_fabric(text);
  Topology::Spec spec =
      fabric ? expanded(*fabric) : chosen.builtin->spec(chosen.options);
  spec.name = text;
  spec.source = chosen.builtin->name.source;
  return Topology(std::move(spec));
}

std::optional<Fabric> builtin_fabric(const std::string& text) {
  auto [builtin, options] = choose(text);
  std::optional<Fabric> fabric;
  if (builtin->fabric) {
    fabric = builtin->fabric(options);
    options.done();
    check(*fabric);
  } else {
    builtin->spec(options);
    options.done();
  }
  return fabric;
}

std::vector<BuiltinName> builtin_names() {
  std::vector<BuiltinName> names;
  for (const Builtin& builtin : builtins()) names.push_back(builtin.name);
  return names;
}

}  // namespace ringweave::topology
