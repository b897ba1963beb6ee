#include "ringweave/discovery/nvidia_smi.h"

#include <algorithm>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ringweave/discovery/nvidia_smi_table.h"
#include "ringweave/discovery/pcie_tree.h"
#include "ringweave/discovery/table_text.h"
#include "ringweave/topology/expand.h"

namespace ringweave::discovery {
namespace {

/// NVLinks of the GPUs that NVSwitches join, all of which a pair then shows:
/// V100 6, A800 and H800 8, A100 12, H100 and B200 18.
constexpr int kFewestSwitchedNvLinks = 6;
constexpr int kMostNvLinks = 18;
constexpr double kNvLink5 = 50e9;  ///< of B200 and later, each way

using Words = std::vector<std::string>;

/// NVLinks of the GPUs as the table has them.
class NvLinks {
 public:
  NvLinks(const SmiTable& table, const ClassRates& rates)
      : table_(table), rates_(rates) {}

  int between(int a, int b) const { return table_.devices[a].cells[b].nvlinks; }
  double rate(int links) const {
    const auto own = rates_.find(fmt::format("NV{}", links));
    return own == rates_.end() ? links * rates_.at("NV") : own->second;
  }
  /// Most of what a GPU has to another one: through a switch, all that it has.
  int port(int gpu) const {
    int most = 0;
    for (int b = 0; b < table_.gpus; ++b)
      most = std::max(most, between(gpu, b));
    return most;
  }
  /// Whether the GPU has more in all than a GPU could have.
  bool is_switched(int gpu) const {
    int sum = 0;
    for (int b = 0; b < table_.gpus; ++b) sum += between(gpu, b);
    return sum > kMostNvLinks;
  }
  /// The links between each two GPUs, if all pairs have the same; or 0.
  int equal() const {
    const int links = table_.gpus > 1 ? between(0, 1) : 0;
    for (int a = 0; a < table_.gpus; ++a) {
      for (int b = 0; b < a; ++b) {
        if (between(a, b) != links) return 0;
      }
    }
    return links;
  }

 private:
  const SmiTable& table_;
  const ClassRates& rates_;
};

/// Direct links, and an NVSwitch for those that must hang on one.
void add_nvlinks(topology::Topology::Spec& spec, const SmiTable& table,
                 const NvLinks& nvlinks) {
  for (int a = 0; a < table.gpus; ++a) {
    for (int b = a + 1; b < table.gpus; ++b) {
      const int links = nvlinks.between(a, b);
      if (links == 0 || (nvlinks.is_switched(a) && nvlinks.is_switched(b))) {
        continue;
      }
      add_cable(spec,
                {a, b, nvlinks.rate(links), 0, fmt::format("NV{}", links)});
    }
  }
  std::vector<bool> hangs(table.gpus, false);
  int hubs = 0;
  for (int a = 0; a < table.gpus; ++a) {
    if (hangs[a] || !nvlinks.is_switched(a)) continue;
    const int hub = static_cast<int>(spec.vertices.size());
    spec.vertices.push_back(
        {topology::VertexKind::switch_, fmt::format("nvswitch{}", hubs++), 0});
    for (int b = a; b < table.gpus; ++b) {
      const bool with_a = b == a || nvlinks.between(a, b) > 0;
      if (!with_a || hangs[b] || !nvlinks.is_switched(b)) continue;
      const int links = nvlinks.port(b);
      add_cable(spec,
                {b, hub, nvlinks.rate(links), 0, fmt::format("NV{}", links)});
      hangs[b] = true;
    }
  }
}

Devices devices_of(const SmiTable& table) {
  Devices result{.gpus = table.gpus, .nearness = {}, .affinity = {}};
  for (const SmiDevice& device : table.devices) {
    result.nearness.emplace_back();
    for (const SmiCell& cell : device.cells) {
      result.nearness.back().push_back(cell.pcie);
    }
  }
  const auto gpus = std::span(table.devices).first(table.gpus);
  const bool numa = std::ranges::none_of(
      gpus, [](const SmiDevice& gpu) { return gpu.numa.empty(); });
  for (const SmiDevice& gpu : gpus) {
    result.affinity.push_back(numa ? gpu.numa : gpu.cpus);
  }
  return result;
}

/// GPUs whose memory has a NUMA node hang on Grace CPUs; one on each is a Grace
/// Hopper, two of one CPU are a Grace Blackwell.
bool is_grace_blackwell(const SmiTable& table) {
  std::set<std::string> cpus;
  bool shared = false;
  for (int gpu = 0; gpu < table.gpus; ++gpu) {
    const SmiDevice& device = table.devices[gpu];
    if (device.memory.empty() || device.cpus.empty()) return false;
    shared |= !cpus.insert(device.cpus).second;
  }
  return shared;
}

/// The classes that a rate can be given for; of a fabric, `links` NVLinks.
std::set<std::string> classes_of(const topology::Topology::Spec& spec,
                                 int links) {
  std::set<std::string> classes;
  if (spec.fabric) classes = {fmt::format("NV{}", links)};
  for (const auto& link : spec.links) {
    if (!spec.fabric) classes.insert(link.link_class);
  }
  if (std::ranges::any_of(classes, [](const std::string& name) {
        return name.starts_with("NV");
      })) {
    classes.insert("NV");
  }
  return classes;
}

/// What the table leaves open about NVLinks, if anything.
Words nvlink_notes(const SmiTable& table, const ClassRates& rates,
                   bool blackwell, bool direct, const NvLinks& nvlinks) {
  Words notes;
  bool has_most = false;
  for (int gpu = 0; gpu < table.gpus; ++gpu) {
    has_most |= nvlinks.port(gpu) == kMostNvLinks;
  }
  const bool given = std::ranges::any_of(
      rates, [](const auto& rate) { return rate.first.starts_with("NV"); });
  if (blackwell && !given) {
    notes.push_back(
        "two GPUs to a CPU, each with a GPU NUMA ID, are read as Grace "
        "Blackwell: 50e9 an NVLink each way; --rate NV=25e9 if they are not");
  } else if (has_most && !given) {
    notes.push_back(
        "the table does not tell the generation of NVLink: 25e9 a link each "
        "way is that of H100 and H200; use --rate NV=50e9 for B200, B300 and "
        "GB200");
  }
  const int links = nvlinks.equal();
  // Two ranks see no difference.
  if (direct && table.gpus > 2 && links >= kFewestSwitchedNvLinks) {
    notes.push_back(fmt::format(
        "NV{0} between all {1} GPUs is read as direct links (HGX H100 "
        "of 4, GH200); if they are a part of an NVSwitch, use "
        "switch:ranks={1},rate={2:g}",
        links, table.gpus, nvlinks.rate(links)));
  }
  return notes;
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
  SmiTable table = read_smi_table(table_lines(text), name);
  ClassRates defaults = default_class_rates();
  const bool blackwell = is_grace_blackwell(table);
  if (blackwell) defaults["NV"] = kNvLink5;
  const ClassRates all = with_defaults(
      rates, std::move(defaults),
      [](const std::string& word) { return is_numbered(word, "NV"); },
      "NV, NV#, PIX, PXB, PHB, NODE or SYS", name);
  const NvLinks nvlinks(table, all);
  const int links = nvlinks.equal();
  // More than a GPU could have to each other one: a switch must join them.
  const bool switched = links * (table.gpus - 1) > kMostNvLinks;
  topology::Topology::Spec spec;
  std::string assumed;
  if (switched) {
    spec = topology::expanded({.kind = topology::FabricKind::switch_,
                               .ranks = table.gpus,
                               .link_bytes_per_second = nvlinks.rate(links)});
  } else {
    for (int gpu = 0; gpu < table.gpus; ++gpu) {
      spec.vertices.push_back({topology::VertexKind::rank,
                               "gpu" + table.devices[gpu].name.substr(3), 0});
    }
    add_nvlinks(spec, table, nvlinks);
    assumed = add_pcie_tree(spec, devices_of(table),
                            PcieClasses(kSmiPcie.begin(), kSmiPcie.end()), all);
  }
  check_used(rates, classes_of(spec, links), name);
  spec.name = name;
  spec.source = fmt::format(
      "nvidia-smi topo -m: classes as printed, rates {}",
      rates.empty() ? "by default" : "as given, the others by default");
  Words notes = nvlink_notes(table, rates, blackwell, !switched, nvlinks);
  if (!assumed.empty()) notes.push_back(std::move(assumed));
  notes.insert(notes.end(), table.notes.begin(), table.notes.end());
  for (const std::string& note : notes) spec.source += "; note: " + note;
  return topology::Topology(std::move(spec));
}

}  // namespace ringweave::discovery
