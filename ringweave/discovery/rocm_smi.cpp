#include "ringweave/discovery/rocm_smi.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "ringweave/base/error.h"
#include "ringweave/discovery/pcie_tree.h"
#include "ringweave/discovery/table_text.h"
#include "ringweave/topology/expand.h"

namespace ringweave::discovery {
namespace {

using Words = std::vector<std::string>;

constexpr int kXgmiWeight = 15;
/// GPU to host and host to GPU.
constexpr int kHostWeight = 2 * 20;
constexpr std::size_t kMostGpus = 256;

const char* const kXgmi = "XGMI";
const char* const kPcie = "PCIE";
const char* const kNuma = "NUMA";

/// The text of each two GPUs, by row and column.
struct Table {
  Words columns;
  std::vector<Words> cells;
};

struct Tables {
  std::optional<Table> weights;
  std::optional<Table> types;
  std::map<std::string, std::string> numa;  ///< "GPU[0]" → NUMA node

  const Table& any() const { return weights ? *weights : *types; }
};

/// Of a title, "=== Weight between two GPUs ===", the words; empty if it is
/// none.
std::string title_of(const Words& words) {
  std::string title;
  bool framed = false;
  for (const std::string& word : words) {
    framed |= word.starts_with("==");
    if (word.find_first_not_of('=') == std::string::npos) continue;
    title += (title.empty() ? "" : " ") + word;
  }
  return framed || title.find("between two GPUs") != std::string::npos ? title
                                                                       : "";
}

/// Reads the columns and rows that follow lines[at].
Table read_table(const std::vector<TableLine>& lines, std::size_t at,
                 const std::string& title, const std::string& where) {
  Table table;
  while (++at < lines.size() && title_of(lines[at].words).empty()) {
    Words words = lines[at].words;
    std::erase(words, "");
    const auto first = std::ranges::find_if(words, is_gpu);
    words.erase(words.begin(), first);
    if (words.empty()) continue;
    if (table.columns.empty()) {
      table.columns = std::move(words);
      require(table.columns.size() <= kMostGpus &&
                  std::ranges::all_of(table.columns, is_gpu),
              "[{}] got the columns {} … in line {}; want at most {} GPUs, "
              "GPU0, GPU1, …",
              where, table.columns[0], lines[at].number, kMostGpus);
      continue;
    }
    if (table.cells.size() == table.columns.size()) break;
    const std::string& wanted = table.columns[table.cells.size()];
    require(words[0] == wanted,
            "[{}] got a row of {} in \"{}\"; want one of {}", where, words[0],
            title, wanted);
    require(words.size() > table.columns.size(),
            "[{}] got {} cells in the row of {} in \"{}\"; want {}", where,
            words.size() - 1, wanted, title, table.columns.size());
    table.cells.emplace_back(
        words.begin() + 1,
        words.begin() + 1 + static_cast<std::ptrdiff_t>(table.columns.size()));
  }
  require(!table.columns.empty(),
          "[{}] got no columns GPU0, GPU1, … below \"{}\"; want the output of "
          "rocm-smi --showtopo",
          where, title);
  require(table.cells.size() == table.columns.size(),
          "[{}] got no row of {} in \"{}\"; want a row per GPU", where,
          table.columns[table.cells.size()], title);
  for (std::size_t a = 0; a < table.cells.size(); ++a) {
    for (std::size_t b = 0; b < a; ++b) {
      require(table.cells[a][b] == table.cells[b][a],
              "[{}] got \"{}\" from {} to {} in \"{}\" and \"{}\" back; want "
              "the same",
              where, table.cells[b][a], table.columns[b], table.columns[a],
              title, table.cells[a][b]);
    }
  }
  return table;
}

/// "GPU[0] : (Topology) Numa Node: 0"; where there is none, the number is -1 or
/// what that is without a sign.
void read_numa(Tables& tables, const Words& words) {
  if (!words.front().starts_with("GPU[") || words.size() < 3) return;
  const auto colon = std::ranges::find(words, "Node:");
  if (colon == words.end() || colon + 1 == words.end()) return;
  constexpr std::size_t kMostDigits = 4;
  const std::string& node = *(colon + 1);
  const bool told = node.size() <= kMostDigits &&
                    node.find_first_not_of("0123456789") == std::string::npos;
  if (told) tables.numa[words.front()] = node;
}

Tables read_tables(const std::vector<TableLine>& lines,
                   const std::string& where) {
  Tables tables;
  const auto put = [&](std::optional<Table>& table, std::size_t at,
                       const std::string& title) {
    require(!table,
            "[{}] got \"{}\" a second time in line {}; want the tables of one "
            "machine: put each into a file of its own",
            where, title, lines[at].number);
    table = read_table(lines, at, title, where);
  };
  for (std::size_t at = 0; at < lines.size(); ++at) {
    const std::string title = title_of(lines[at].words);
    if (title.starts_with("Weight")) put(tables.weights, at, title);
    if (title.starts_with("Link Type")) put(tables.types, at, title);
    read_numa(tables, lines[at].words);
  }
  require(tables.weights || tables.types,
          "[{}] got neither weights nor link types between GPUs; want the "
          "output of rocm-smi --showtopo",
          where);
  if (tables.any().columns.size() == 1) return tables;
  require(tables.weights && tables.types,
          "[{}] got no {} between GPUs; want both weights and link types: all "
          "that rocm-smi --showtopo prints",
          where, tables.weights ? "link types" : "weights");
  require(tables.weights->columns == tables.types->columns,
          "[{}] got weights of {} GPUs and link types of {}; want the tables "
          "of one machine",
          where, tables.weights->columns.size(), tables.types->columns.size());
  return tables;
}

/// Of two GPUs.
struct Way {
  bool xgmi = false;
  int weight = 0;
};

Way way_of(const Tables& tables, std::size_t a, std::size_t b,
           const std::string& where) {
  const std::string& type = tables.types->cells[a][b];
  const std::string& text = tables.weights->cells[a][b];
  const Words& names = tables.types->columns;
  require(type == kXgmi || type == kPcie,
          "[{}] got link type \"{}\" between {} and {}; want XGMI or PCIE",
          where, type, names[a], names[b]);
  Way way{.xgmi = type == kXgmi};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, way.weight);
  const bool good = error == std::errc() && stop == end && way.weight > 0;
  require(good && (!way.xgmi || way.weight % kXgmiWeight == 0),
          "[{}] got weight \"{}\" of {} between {} and {}; want {}", where,
          text, type, names[a], names[b],
          way.xgmi ? "15 for each xGMI link on the way" : "a positive number");
  return way;
}

struct Ways {
  std::vector<std::vector<Way>> between;
  int links = 0;  ///< pairs with an xGMI link
  int pcie = 0;   ///< pairs without a way over xGMI
};

Ways read_ways(const Tables& tables, const std::string& where) {
  const std::size_t count = tables.any().columns.size();
  Ways ways{.between = {count, std::vector<Way>(count)}};
  for (std::size_t a = 0; a < count; ++a) {
    for (std::size_t b = 0; b < a; ++b) {
      const Way way = way_of(tables, a, b, where);
      ways.between[a][b] = ways.between[b][a] = way;
      ways.links += way.xgmi && way.weight == kXgmiWeight ? 1 : 0;
      ways.pcie += way.xgmi ? 0 : 1;
    }
  }
  return ways;
}

Devices devices_of(const Tables& tables, const Ways& ways) {
  const std::size_t count = ways.between.size();
  Devices devices{.gpus = static_cast<int>(count),
                  .nearness = std::vector(
                      count, std::vector<Nearness>(count, Nearness::hidden)),
                  .affinity = {}};
  for (std::size_t a = 0; a < count; ++a) {
    const std::string& name = tables.any().columns[a];
    const auto numa = tables.numa.find("GPU[" + name.substr(3) + "]");
    devices.affinity.push_back(numa == tables.numa.end() ? "" : numa->second);
    for (std::size_t b = 0; b < count; ++b) {
      const Way& way = ways.between[a][b];
      if (a == b || way.xgmi) continue;
      devices.nearness[a][b] =
          way.weight <= kHostWeight ? Nearness::bridge : Nearness::sockets;
    }
  }
  return devices;
}

/// xGMI links, and hosts if there are pairs without.
topology::Topology::Spec graph(const Tables& tables, const Ways& ways,
                               const ClassRates& rates, Words& notes) {
  topology::Topology::Spec spec;
  const int gpus = static_cast<int>(ways.between.size());
  for (const std::string& name : tables.any().columns) {
    spec.vertices.push_back(
        {topology::VertexKind::rank, "gpu" + name.substr(3), 0});
  }
  for (int a = 0; a < gpus; ++a) {
    for (int b = a + 1; b < gpus; ++b) {
      const Way& way = ways.between[a][b];
      if (!way.xgmi) continue;
      if (way.weight == kXgmiWeight) {
        add_cable(spec, {a, b, rates.at(kXgmi), 0, kXgmi});
      } else {
        spec.ranks_forward = true;
      }
    }
  }
  if (spec.ranks_forward) {
    notes.emplace_back(
        "pairs of weight 30 and more have no link; GPUs pass their traffic on");
  }
  if (ways.pcie > 0) {
    std::string assumed =
        add_pcie_tree(spec, devices_of(tables, ways),
                      {kPcie, kPcie, kPcie, kPcie, kNuma}, rates);
    if (!assumed.empty()) notes.push_back(std::move(assumed));
  }
  return spec;
}

void check_reached(const topology::Topology& topology,
                   const std::string& where) {
  try {
    topology.check_connected();
  } catch (const InvalidArgument& error) {
    throw InvalidArgument(fmt::format(
        "[{}] got XGMI of weight 30 or more without links of weight 15 to go "
        "by: {}",
        where, error.what()));
  }
}

}  // namespace

ClassRates default_rocm_rates() {
  return {{kXgmi, 48e9}, {kPcie, 31.5e9}, {kNuma, 32e9}};
}

topology::Topology topology_from_rocm_smi(const std::string& text,
                                          const ClassRates& rates,
                                          const std::string& name) {
  const Tables tables = read_tables(table_lines(text), name);
  const ClassRates all = with_defaults(
      rates, default_rocm_rates(), [](const std::string&) { return false; },
      "XGMI, PCIE or NUMA", name);
  const Ways ways = read_ways(tables, name);
  const int gpus = static_cast<int>(ways.between.size());
  Words notes;
  if (ways.links > 0 && !rates.contains(kXgmi)) {
    notes.emplace_back(
        "48e9 an xGMI link each way is what MI300X, MI308X and MI325X can use "
        "of 64e9; a pair of MI250X has one to four links of 50e9, one of "
        "MI300A two of 64e9, which the tables do not tell: use --rate XGMI=");
  }
  const bool whole = gpus > 1 && ways.links == gpus * (gpus - 1) / 2;
  topology::Topology::Spec spec =
      whole ? topology::expanded({.kind = topology::FabricKind::mesh,
                                  .ranks = gpus,
                                  .link_bytes_per_second = all.at(kXgmi)})
            : graph(tables, ways, all, notes);
  std::set<std::string> used;
  for (const auto& link : spec.links) {
    used.insert(whole ? kXgmi : link.link_class);
  }
  check_used(rates, used, name);
  spec.name = name;
  spec.source = fmt::format(
      "rocm-smi --showtopo: links as printed, rates {}",
      rates.empty() ? "by default" : "as given, the others by default");
  for (const std::string& note : notes) spec.source += "; note: " + note;
  topology::Topology topology(std::move(spec));
  check_reached(topology, name);
  return topology;
}

}  // namespace ringweave::discovery
