#include "ringweave/discovery/nvidia_smi.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <numeric>
#include <optional>
#include <set>
#include <sstream>
#include <utility>
#include <vector>

#include <fmt/ranges.h>

#include "ringweave/base/error.h"
#include "ringweave/base/json.h"
#include "ringweave/topology/expand.h"
#include "ringweave/topology/limits.h"

namespace ringweave::discovery {
namespace {

/// From near to far. SYS joins sockets, the others make the tree below one.
constexpr std::array<const char*, 5> kPcie = {"PIX", "PXB", "PHB", "NODE",
                                              "SYS"};
constexpr int kSys = 4;
/// NVLinks of the GPUs that NVSwitches join, all of which a pair then shows:
/// V100 6, A800 and H800 8, A100 12, H100 and B200 18.
constexpr int kFewestSwitchedNvLinks = 6;
constexpr int kMostNvLinks = 18;

bool numbered(const std::string& word, const std::string& prefix) {
  constexpr std::size_t kLongest = 4;
  return word.starts_with(prefix) && word.size() > prefix.size() &&
         word.size() <= prefix.size() + kLongest &&
         std::all_of(word.begin() + prefix.size(), word.end(),
                     [](unsigned char c) { return std::isdigit(c); });
}

/// How two devices are joined, in one cell.
struct Cell {
  int nvlinks = 0;  ///< of "NV4": 4
  int pcie = -1;    ///< index in kPcie; -1: hidden by NVLinks, or "X"
  bool self = false;
  friend bool operator==(const Cell&, const Cell&) = default;
};

struct Device {
  std::string name;
  std::string affinity;  ///< its CPUs, if it is a GPU and they are known
  std::vector<Cell> cells;

  bool gpu() const { return numbered(name, "GPU"); }
};

/// Without the escape sequences that a terminal gets.
std::string plain(const std::string& text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\x1b' && i + 1 < text.size() && text[i + 1] == '[') {
      for (i += 2; i < text.size() &&
                   !std::isalpha(static_cast<unsigned char>(text[i]));
           ++i) {
      }
      continue;
    }
    result += text[i];
  }
  return result;
}

std::vector<std::string> words(const std::string& line) {
  std::istringstream stream(line);
  std::vector<std::string> result;
  for (std::string word; stream >> word;) result.push_back(word);
  return result;
}

std::optional<Cell> parse_cell(const std::string& word) {
  if (word == "X") return Cell{.self = true};
  if (numbered(word, "NV")) return Cell{.nvlinks = std::stoi(word.substr(2))};
  if (word == "SOC") return Cell{.pcie = kSys};  // SYS in drivers before 2017
  const auto found = std::find(kPcie.begin(), kPcie.end(), word);
  if (found == kPcie.end()) return std::nullopt;
  return Cell{.pcie = static_cast<int>(found - kPcie.begin())};
}

/// The devices of a header line, which the columns "CPU Affinity", … follow;
/// empty if it is none. NICs are NIC0, NIC1, … or what their drivers and
/// administrators call them: mlx5_0, mlx5_bond_0, irdma0, rocep1s0f0, ibp12s0.
std::vector<std::string> header_of(const std::vector<std::string>& line) {
  if (line.empty() || line.front() != "GPU0") return {};
  const auto end = std::find(line.begin(), line.end(), "CPU");
  const bool is_row = std::any_of(
      line.begin(), end,
      [](const std::string& word) { return parse_cell(word).has_value(); });
  return is_row ? std::vector<std::string>()
                : std::vector<std::string>(line.begin(), end);
}

Device read_row(const std::vector<std::string>& line,
                const std::vector<std::string>& columns,
                const std::string& where) {
  Device device{.name = line[0], .affinity = "", .cells = {}};
  require(line.size() > columns.size(),
          "[{}] got {} cells in the row of {}; want {}, one per device", where,
          line.size() - 1, device.name, columns.size());
  for (std::size_t i = 0; i < columns.size(); ++i) {
    const std::string& word = line[i + 1];
    const auto cell = parse_cell(word);
    require(cell.has_value(),
            "[{}] got \"{}\" between {} and {}; want X, NV#, PIX, PXB, PHB, "
            "NODE or SYS",
            where, word, device.name, columns[i]);
    require(cell->self == (columns[i] == device.name),
            "[{}] got \"{}\" between {} and {}; want X where a device meets "
            "itself, and only there",
            where, word, device.name, columns[i]);
    device.cells.push_back(*cell);
  }
  if (device.gpu() && line.size() > columns.size() + 1) {
    const std::string& affinity = line[columns.size() + 1];
    if (affinity != "N/A") device.affinity = affinity;
  }
  return device;
}

void check_symmetric(const std::vector<Device>& devices,
                     const std::string& where) {
  for (std::size_t i = 0; i < devices.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      require(devices[i].cells[j] == devices[j].cells[i],
              "[{}] got different classes of {} to {} and back; want the same",
              where, devices[j].name, devices[i].name);
    }
  }
}

/// A near class on the way makes a far one impossible: what hangs below one
/// switch with a third device, hangs below it together.
void check_nested(const std::vector<Device>& devices,
                  const std::string& where) {
  const int count = static_cast<int>(devices.size());
  const auto level = [&](int a, int b) { return devices[a].cells[b].pcie; };
  for (int a = 0; a < count; ++a) {
    for (int b = 0; b < a; ++b) {
      for (int via = 0; via < count; ++via) {
        if (level(a, via) < 0 || level(via, b) < 0) continue;
        const int most = std::max(level(a, via), level(via, b));
        require(level(a, b) <= most,
                "[{}] got {} between {} and {}, but at most {} from each of "
                "them to {}; want classes of one tree",
                where, kPcie[std::max(level(a, b), 0)], devices[b].name,
                devices[a].name, kPcie[most], devices[via].name);
      }
    }
  }
}

void check_columns(const std::vector<std::string>& columns,
                   const std::string& where) {
  std::set<std::string> seen;
  for (const std::string& column : columns) {
    require(seen.insert(column).second,
            "[{}] got {} twice among the columns; want each device once", where,
            column);
  }
}

/// The rows in the order of the columns.
std::vector<Device> read_table(const std::string& text,
                               const std::string& where) {
  std::istringstream stream(plain(text));
  std::vector<std::string> columns;
  std::vector<Device> devices;
  for (std::string line; std::getline(stream, line);) {
    const std::vector<std::string> row = words(line);
    if (columns.empty()) {
      columns = header_of(row);
      check_columns(columns, where);
    } else if (row.empty()) {
      if (!devices.empty()) break;
    } else if (devices.size() == columns.size()) {
      // A legend may follow without an empty line, but no other device.
      require(row.size() < 2 || !parse_cell(row[1]),
              "[{}] got a row of {}; want none after the last device", where,
              row[0]);
      break;
    } else {
      require(row[0] == columns[devices.size()],
              "[{}] got a row of {}; want one of {}", where, row[0],
              columns[devices.size()]);
      devices.push_back(read_row(row, columns, where));
    }
  }
  require(!columns.empty(),
          "[{}] got no line of columns GPU0, GPU1, …; want the output of "
          "nvidia-smi topo -m",
          where);
  require(devices.size() == columns.size(),
          "[{}] got no row of {}; want a row per device", where,
          columns[std::min(devices.size(), columns.size() - 1)]);
  check_symmetric(devices, where);
  check_nested(devices, where);
  return devices;
}

double rate_of(const ClassRates& rates, int nvlinks) {
  const auto own = rates.find(fmt::format("NV{}", nvlinks));
  return own == rates.end() ? nvlinks * rates.at("NV") : own->second;
}

ClassRates merged(const ClassRates& rates, const std::string& where) {
  ClassRates all = default_class_rates();
  for (const auto& [name, rate] : rates) {
    require(all.contains(name) || numbered(name, "NV"),
            "[{}] got a rate of class \"{}\"; want NV, NV#, PIX, PXB, PHB, "
            "NODE or SYS",
            where, name);
    require(topology::is_rate(rate),
            "[{}] got {} bytes per second of class {}; want {} … {}", where,
            rate, name, topology::kMinBytesPerSecond,
            topology::kMaxBytesPerSecond);
    all[name] = rate;
  }
  return all;
}

/// Throws InvalidArgument for a rate of a class that neither the table nor the
/// links made of it have.
void check_used(const ClassRates& rates, const std::vector<Device>& devices,
                const topology::Topology::Spec& spec,
                const std::string& where) {
  std::set<std::string> classes;
  for (const Device& device : devices) {
    for (const Cell& cell : device.cells) {
      if (cell.pcie >= 0) classes.insert(kPcie[cell.pcie]);
      if (cell.nvlinks == 0) continue;
      classes.insert("NV");
      classes.insert(fmt::format("NV{}", cell.nvlinks));
    }
  }
  for (const topology::Link& link : spec.links) classes.insert(link.link_class);
  for (const auto& [name, rate] : rates) {
    require(classes.contains(name),
            "[{}] got a rate of class {}, which the table doesn't have; want "
            "one of {}",
            where, name, fmt::join(classes, ", "));
  }
}

/// NVLinks between each two of several GPUs, if all pairs have the same; or 0.
int equal_links(const std::vector<Device>& gpus) {
  const int count = static_cast<int>(gpus.size());
  if (count < 2) return 0;
  const int links = gpus[0].cells[1].nvlinks;
  for (int a = 0; a < count; ++a) {
    for (int b = 0; b < a; ++b) {
      if (gpus[a].cells[b].nvlinks != links) return 0;
    }
  }
  return links;
}

/// The PCIe tree, grown from the devices upwards: what is joined by a class or
/// a nearer one hangs below one vertex.
class Tree {
 public:
  Tree(const std::vector<Device>& devices, int gpus, const ClassRates& rates,
       topology::Topology::Spec& spec)
      : devices_(devices), rates_(rates), spec_(spec) {
    group_.resize(devices.size());
    std::iota(group_.begin(), group_.end(), 0);
    for (int device = 0; device < static_cast<int>(devices.size()); ++device) {
      roots_.push_back({device < gpus ? device : -1});
    }
  }

  void grow() {
    for (int level = 0; level < kSys; ++level) {
      unite(level);
      lift(level);
    }
    join_sockets();
  }

 private:
  void merge(int a, int b) {
    const int from = std::max(group_[a], group_[b]);
    const int to = std::min(group_[a], group_[b]);
    if (from == to) return;
    std::replace(group_.begin(), group_.end(), from, to);
    roots_[to].insert(roots_[to].end(), roots_[from].begin(),
                      roots_[from].end());
    roots_[from].clear();
  }

  void unite(int level) {
    for (int a = 0; a < static_cast<int>(devices_.size()); ++a) {
      for (int b = 0; b < a; ++b) {
        const Cell& cell = devices_[a].cells[b];
        // Where NVLinks hide the class, CPUs tell the socket.
        const bool same_socket = level == kSys - 1 && cell.nvlinks > 0 &&
                                 !devices_[a].affinity.empty() &&
                                 devices_[a].affinity == devices_[b].affinity;
        if ((cell.pcie >= 0 && cell.pcie <= level) || same_socket) {
          merge(a, b);
        }
      }
    }
  }

  /// Puts a vertex above the roots of every group that has several; above
  /// every group of GPUs once it is a whole socket.
  void lift(int level) {
    const bool socket = level == kSys - 1;
    for (auto& roots : roots_) {
      std::erase(roots, -1);  // NICs: they have no vertex
      std::sort(roots.begin(), roots.end());
      if (roots.empty() || (roots.size() == 1 && !socket)) continue;
      if (roots.size() == 1 && is_host(roots[0])) {
        sockets_.push_back(roots[0]);
        continue;
      }
      const int above = static_cast<int>(spec_.vertices.size());
      const bool host = level >= 2;
      spec_.vertices.push_back(
          {host ? topology::VertexKind::host : topology::VertexKind::switch_,
           host ? fmt::format("host{}", hosts_++)
                : fmt::format("pcie{}", switches_++),
           0});
      // A GPU alone below its socket goes by the host bridge.
      const char* name = kPcie[roots.size() == 1 ? 2 : level];
      for (const int root : roots) {
        add_cable(spec_, {root, above, rates_.at(name), 0, name});
      }
      roots = {above};
      if (socket) sockets_.push_back(above);
    }
  }

  void join_sockets() {
    for (std::size_t a = 0; a < sockets_.size(); ++a) {
      for (std::size_t b = a + 1; b < sockets_.size(); ++b) {
        add_cable(spec_, {sockets_[a], sockets_[b], rates_.at(kPcie[kSys]), 0,
                          kPcie[kSys]});
      }
    }
  }

  bool is_host(int vertex) const {
    return spec_.vertices[vertex].kind == topology::VertexKind::host;
  }

  const std::vector<Device>& devices_;
  const ClassRates& rates_;
  topology::Topology::Spec& spec_;
  std::vector<int> group_;               // device → number of its group
  std::vector<std::vector<int>> roots_;  // group → vertices without a parent
  std::vector<int> sockets_;
  int switches_ = 0;
  int hosts_ = 0;
};

topology::Topology::Spec graph(const std::vector<Device>& devices, int gpus,
                               const ClassRates& rates) {
  topology::Topology::Spec spec;
  for (int gpu = 0; gpu < gpus; ++gpu) {
    spec.vertices.push_back(
        {topology::VertexKind::rank, fmt::format("gpu{}", gpu), 0});
  }
  for (int a = 0; a < gpus; ++a) {
    for (int b = a + 1; b < gpus; ++b) {
      const int links = devices[a].cells[b].nvlinks;
      if (links == 0) continue;
      add_cable(spec,
                {a, b, rate_of(rates, links), 0, fmt::format("NV{}", links)});
    }
  }
  Tree(devices, gpus, rates, spec).grow();
  return spec;
}

}  // namespace

ClassRates default_class_rates() {
  constexpr double kPcie4 = 31.5e9;
  return {{"NV", 25e9},    {"PIX", kPcie4},  {"PXB", kPcie4},
          {"PHB", kPcie4}, {"NODE", kPcie4}, {"SYS", 20.8e9}};
}

topology::Topology topology_from_nvidia_smi(const std::string& text,
                                            const ClassRates& rates,
                                            const std::string& name) {
  const ClassRates all = merged(rates, name);
  std::vector<Device> devices = read_table(text, name);
  const auto first_nic =
      std::find_if_not(devices.begin(), devices.end(),
                       [](const Device& device) { return device.gpu(); });
  const int gpus = static_cast<int>(first_nic - devices.begin());
  require(std::none_of(first_nic, devices.end(),
                       [](const Device& device) { return device.gpu(); }),
          "[{}] got a GPU after a NIC; want the GPUs first", name);
  const int links = equal_links({devices.begin(), first_nic});
  // More than a GPU could have to each other one: a switch must join them.
  const bool switched = links * (gpus - 1) > kMostNvLinks;
  topology::Topology::Spec spec;
  if (switched) {
    topology::Fabric fabric;
    fabric.kind = topology::FabricKind::switch_;
    fabric.ranks = gpus;
    fabric.link_bytes_per_second = rate_of(all, links);
    spec = expanded(fabric);
  } else {
    spec = graph(devices, gpus, all);
  }
  check_used(rates, devices, spec, name);
  spec.name = name;
  spec.source = fmt::format(
      "nvidia-smi topo -m: classes as printed, rates {}",
      rates.empty() ? "by default" : "as given, the others by default");
  // Two ranks see no difference.
  if (!switched && gpus > 2 && links >= kFewestSwitchedNvLinks) {
    spec.source += fmt::format(
        "; note: NV{0} between all {1} GPUs is read as direct links (HGX H100 "
        "of 4, GH200); if they are a part of an NVSwitch, use "
        "switch:ranks={1},rate={2:g}",
        links, gpus, rate_of(all, links));
  }
  return topology::Topology(std::move(spec));
}

}  // namespace ringweave::discovery
