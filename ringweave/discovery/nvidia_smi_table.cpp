#include "ringweave/discovery/nvidia_smi_table.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "ringweave/base/error.h"

namespace ringweave::discovery {
namespace {

constexpr std::size_t kMostDevices = 256;

using Words = std::vector<std::string>;

/// The cell that `text` begins with, which is then cut off.
std::optional<SmiCell> take_cell(std::string_view& text) {
  const auto starts = [&](std::string_view word) {
    if (!text.starts_with(word)) return false;
    text.remove_prefix(word.size());
    return true;
  };
  for (std::size_t i = 0; i < kSmiPcie.size(); ++i) {
    if (starts(kSmiPcie[i])) return SmiCell{.pcie = static_cast<Nearness>(i)};
  }
  if (starts("SOC")) return SmiCell{.pcie = Nearness::sockets};  // before 2017
  if (starts("X")) return SmiCell{.self = true};
  constexpr std::size_t kDigits = 2;
  std::size_t end = 2;
  while (end < text.size() && end < 2 + kDigits &&
         std::isdigit(static_cast<unsigned char>(text[end]))) {
    ++end;
  }
  if (!text.starts_with("NV") || end == 2) return std::nullopt;
  const int links = std::stoi(std::string(text.substr(2, end - 2)));
  if (links == 0) return std::nullopt;
  text.remove_prefix(end);
  return SmiCell{.nvlinks = links};
}

/// The cells of a word: one, or several that lost the blanks between them, such
/// as "NODEPIX". Empty if it is something else.
std::vector<SmiCell> parse_cells(std::string_view word) {
  std::vector<SmiCell> cells;
  while (!word.empty()) {
    const std::optional<SmiCell> cell = take_cell(word);
    if (!cell) return {};
    cells.push_back(*cell);
  }
  return cells;
}

bool is_cell(const std::string& word) { return !parse_cells(word).empty(); }

/// Such as "0-51,104-155".
bool is_number_list(const std::string& word) {
  return word.find_first_of("0123456789") == 0 &&
         word.find_first_not_of("0123456789,-") == std::string::npos;
}

/// The place of the word that names the row, behind what a launcher or a log
/// put before each line; nullopt if it is no row of a GPU.
std::optional<std::size_t> gpu_row(const Words& words) {
  for (std::size_t i = 0; i + 1 < words.size(); ++i) {
    if (is_gpu(words[i])) {
      return is_cell(words[i + 1]) ? std::optional(i) : std::nullopt;
    }
  }
  return std::nullopt;
}

struct Header {
  std::size_t line = 0;    ///< its index
  std::size_t begin = 0;   ///< of its words: the first device
  Words columns;           ///< the devices
  bool cpus = false;       ///< "CPU Affinity" follows
  bool numa = false;       ///< "NUMA Affinity"
  bool memory = false;     ///< "GPU NUMA ID"
  bool tabs_count = true;  ///< nothing between two tabs is an empty cell
};

/// The line of columns above the first row. NICs are NIC0, NIC1, … or what
/// their drivers and administrators call them: mlx5_0, mlx5_bond_0, irdma0.
Header find_header(const std::vector<TableLine>& lines,
                   const std::string& where) {
  std::size_t first = 0;
  while (first < lines.size() && !gpu_row(lines[first].words)) ++first;
  std::size_t at = first;
  bool found = false;
  while (at > 0 && !found) {
    found = std::ranges::any_of(lines[--at].words, is_gpu);
  }
  require(found || first < lines.size(),
          "[{}] got no line of columns GPU0, GPU1, …; want the output of "
          "nvidia-smi topo -m",
          where);
  require(found,
          "[{}] got no line of columns GPU0, GPU1, … above the row of a GPU in "
          "line {}; want all that nvidia-smi topo -m prints (grep ^GPU drops "
          "the columns)",
          where, lines[first].number);
  require(first < lines.size(),
          "[{}] got no row of {}; want a row per GPU, as nvidia-smi topo -m "
          "prints it",
          where, *std::ranges::find_if(lines[at].words, is_gpu));
  Header header;
  const Words& words = lines[at].words;
  header.line = at;
  header.begin = static_cast<std::size_t>(std::ranges::find_if(words, is_gpu) -
                                          words.begin());
  std::size_t i = header.begin;
  for (; i < words.size(); ++i) {
    if (words[i] == "CPU" || words[i] == "NUMA" || words[i] == "GPU") break;
    if (words[i].empty()) {
      header.tabs_count = false;
    } else {
      header.columns.push_back(words[i]);
    }
  }
  for (; i < words.size(); ++i) {
    header.cpus |= words[i] == "CPU";
    header.memory |= words[i] == "GPU";
    header.numa |= words[i] == "NUMA" && words[i - 1] != "GPU";
  }
  return header;
}

void read_affinity(SmiDevice& device, const Header& header, const Words& words,
                   std::size_t i) {
  // A blank column is not to be seen without tabs.
  const std::size_t columns = header.cpus + header.numa + header.memory;
  if (words.size() < i + columns) return;
  const auto taken = [&](std::size_t at) {
    return is_number_list(words[at]) ? words[at] : std::string();
  };
  if (header.cpus) device.cpus = taken(i);
  if (header.numa) device.numa = taken(i + (header.cpus ? 1 : 0));
  // nvidia-smi puts two tabs before it, of which spaces show nothing.
  if (header.memory) {
    std::size_t last = words.size() - 1;
    while (words[last].empty() && last > i) --last;
    if (last >= i + columns - 1) device.memory = taken(last);
  }
}

/// The cells of `words`, which begin with the device's name, and what follows
/// them.
void read_row(SmiDevice& device, const Header& header, Words words) {
  if (!header.tabs_count) std::erase(words, "");
  const std::size_t count = header.columns.size();
  std::size_t i = 1;
  device.found = true;
  while (i < words.size() && device.cells.size() < count) {
    const std::vector<SmiCell> cells = parse_cells(words[i]);
    if (cells.empty()) break;
    device.cells.insert(device.cells.end(), cells.begin(), cells.end());
    ++i;
  }
  if (device.cells.size() < count && i < words.size() &&
      !is_number_list(words[i])) {
    device.fault = fmt::format(
        "got \"{}\" between {} and {}; want X, NV#, PIX, PXB, PHB, NODE or SYS",
        words[i], device.name, header.columns[device.cells.size()]);
  } else if (device.cells.size() != count) {
    device.fault =
        fmt::format("got {} cells in the row of {}; want {}, one per device",
                    device.cells.size(), device.name, count);
  }
  if (!device.fault.empty()) {
    while (i < words.size() && !is_number_list(words[i])) ++i;
  }
  read_affinity(device, header, words, i);
}

/// The rows of the table below `header`, in the order of its columns. Other
/// lines may stand between them.
std::vector<SmiDevice> read_rows(const std::vector<TableLine>& lines,
                                 const Header& header,
                                 const std::string& where) {
  std::vector<SmiDevice> devices;
  std::map<std::string, std::size_t> places;
  for (const std::string& column : header.columns) {
    require(places.emplace(column, devices.size()).second,
            "[{}] got {} twice among the columns; want each device once", where,
            column);
    devices.emplace_back().name = column;
  }
  for (std::size_t at = header.line + 1; at < lines.size(); ++at) {
    const Words& words = lines[at].words;
    // Where something stands before the columns, it may before the rows too.
    std::size_t begin = gpu_row(words).value_or(0);
    if (!places.contains(words[begin]) && header.begin < words.size()) {
      begin = header.begin;
    }
    const auto place = places.find(words[begin]);
    if (place == places.end()) {
      require(!gpu_row(words).has_value(),
              "[{}] got a row of {} in line {}; want none of it, as it is no "
              "column of the table (a second table goes into a file of its "
              "own)",
              where, words[begin], lines[at].number);
      continue;
    }
    SmiDevice& device = devices[place->second];
    const bool row = begin + 1 < words.size() && is_cell(words[begin + 1]);
    // Beside rows there are legends, and sentences about GPUs.
    if (!row && (device.found || !is_gpu(device.name))) continue;
    require(!device.found,
            "[{}] got a second row of {} in line {}; want one table: put each "
            "into a file of its own",
            where, device.name, lines[at].number);
    read_row(
        device, header,
        Words(words.begin() + static_cast<std::ptrdiff_t>(begin), words.end()));
  }
  return devices;
}

/// What is wrong with a row's cells, or "".
std::string fault_of_row(const std::vector<SmiDevice>& devices,
                         std::size_t row) {
  const SmiDevice& device = devices[row];
  if (!device.found) {
    return fmt::format("got no row of {}; want a row per device", device.name);
  }
  if (!device.fault.empty()) return device.fault;
  for (std::size_t i = 0; i < devices.size(); ++i) {
    if (device.cells[i].self == (i == row)) continue;
    return fmt::format(
        "got \"{}\" between {} and {}; want X where a device meets itself, and "
        "only there",
        shown(device.cells[i]), device.name, devices[i].name);
  }
  return {};
}

/// Of cells that contradict each other, or "". A near class on the way makes a
/// far one impossible: what hangs below one switch with a third device, hangs
/// below it together.
std::string contradiction(const std::vector<SmiDevice>& devices) {
  const std::size_t count = devices.size();
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (devices[i].cells[j] == devices[j].cells[i]) continue;
      return fmt::format(
          "got different classes of {} to {} and back; want the same",
          devices[j].name, devices[i].name);
    }
  }
  const auto level = [&](std::size_t a, std::size_t b) {
    return devices[a].cells[b].pcie;
  };
  for (std::size_t a = 0; a < count; ++a) {
    for (std::size_t b = 0; b < a; ++b) {
      if (level(a, b) == Nearness::hidden) continue;
      for (std::size_t via = 0; via < count; ++via) {
        const Nearness most = std::max(level(a, via), level(via, b));
        if (level(a, b) <= most) continue;
        return fmt::format(
            "got {} between {} and {}, but at most {} from each of them to {}; "
            "want classes of one tree",
            shown(devices[a].cells[b]), devices[b].name, devices[a].name,
            kSmiPcie[static_cast<std::size_t>(most)], devices[via].name);
      }
    }
  }
  return {};
}

/// Without the columns behind the first `count`.
std::vector<SmiDevice> first_of(std::vector<SmiDevice> devices,
                                std::size_t count) {
  devices.erase(devices.begin() + static_cast<std::ptrdiff_t>(count),
                devices.end());
  for (SmiDevice& device : devices) {
    if (device.cells.size() < count) continue;
    device.cells.resize(count);
    device.fault.clear();
  }
  return devices;
}

std::string fault_of(const std::vector<SmiDevice>& devices) {
  for (std::size_t row = 0; row < devices.size(); ++row) {
    std::string fault = fault_of_row(devices, row);
    if (!fault.empty()) return fault;
  }
  return contradiction(devices);
}

}  // namespace

std::string shown(const SmiCell& cell) {
  if (cell.nvlinks > 0) return fmt::format("NV{}", cell.nvlinks);
  return cell.self ? "X" : kSmiPcie[static_cast<std::size_t>(cell.pcie)];
}

SmiTable read_smi_table(const std::vector<TableLine>& lines,
                        const std::string& where) {
  const Header header = find_header(lines, where);
  require(header.columns.size() <= kMostDevices,
          "[{}] got {} columns; want at most {}", where, header.columns.size(),
          kMostDevices);
  const auto first_nic = std::ranges::find_if_not(header.columns, is_gpu);
  require(std::none_of(first_nic, header.columns.end(), is_gpu),
          "[{}] got a GPU after a NIC; want the GPUs first", where);
  SmiTable table;
  const auto gpus =
      static_cast<std::size_t>(first_nic - header.columns.begin());
  table.gpus = static_cast<int>(gpus);
  table.devices = read_rows(lines, header, where);
  std::vector<SmiDevice> alone = first_of(table.devices, gpus);
  std::string fault = fault_of(alone);
  require(fault.empty(), "[{}] {}", where, fault);
  const std::size_t nics = table.devices.size() - gpus;
  if (nics == 0) return table;
  fault = fault_of(table.devices);
  const Words names(first_nic, header.columns.end());
  const std::string left_out =
      nics == 1
          ? names.front() + " is left out"
          : fmt::format("{} to {} are left out", names.front(), names.back());
  if (fault.empty()) {
    table.notes.push_back(
        left_out + ", as the table does not tell what is at the other end");
  } else {
    table.notes.push_back(
        fmt::format("{}, also where they would tell of PCIe switches: {}",
                    left_out, fault));
    table.devices = std::move(alone);
  }
  return table;
}

}  // namespace ringweave::discovery
