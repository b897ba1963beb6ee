#include "ringweave/discovery/machine_table.h"

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <vector>

#include <fmt/ranges.h>

#include "ringweave/base/error.h"
#include "ringweave/base/file.h"
#include "ringweave/discovery/nvidia_smi.h"
#include "ringweave/discovery/rocm_smi.h"
#include "ringweave/discovery/table_text.h"
#include "ringweave/topology/topology_file.h"

namespace ringweave::discovery {
namespace {

/// Told by its beginning: files of JSON may be long.
bool looks_like_json(std::string_view text) {
  constexpr std::size_t kLooked = 4096;
  const auto head = table_lines(text.substr(0, kLooked));
  return !head.empty() && head.front().words.front().starts_with("{");
}

bool is_of_amd(const TableLine& line) {
  const std::string text = fmt::format("{}", fmt::join(line.words, " "));
  // The last is a title of amd-smi, whose tables name GPUs by their bus.
  return text.find("ROCm System Management") != std::string::npos ||
         text.find("between two GPUs") != std::string::npos ||
         text.find("WEIGHT TABLE") != std::string::npos;
}

bool names_gpu(const TableLine& line) {
  return std::ranges::any_of(line.words, is_gpu);
}

}  // namespace

const char* name(TableKind kind) {
  switch (kind) {
    case TableKind::none:
      return "no table";
    case TableKind::nvidia_smi:
      return "nvidia-smi";
    case TableKind::rocm_smi:
      return "rocm-smi";
  }
  throw InternalError("bug in ringweave: a table of no kind");
}

TableKind table_kind(const std::string& text) {
  if (looks_like_json(text)) return TableKind::none;
  const std::vector<TableLine> lines = table_lines(text);
  if (std::ranges::any_of(lines, is_of_amd)) return TableKind::rocm_smi;
  return std::ranges::any_of(lines, names_gpu) ? TableKind::nvidia_smi
                                               : TableKind::none;
}

topology::Topology topology_from_table(const std::string& text, TableKind kind,
                                       const ClassRates& rates,
                                       const std::string& name) {
  const TableKind found = table_kind(text);
  if (kind == TableKind::none) kind = found;
  require(kind != TableKind::none,
          "[{}] got no table of GPU0, GPU1, …; want what nvidia-smi topo -m or "
          "rocm-smi --showtopo prints, or a topology file",
          name);
  require(found == kind || found == TableKind::none,
          "[{}] got a table of {} with --from {}; want --from {}, or no --from",
          name, discovery::name(found), discovery::name(kind),
          discovery::name(found));
  return kind == TableKind::rocm_smi
             ? topology_from_rocm_smi(text, rates, name)
             : topology_from_nvidia_smi(text, rates, name);
}

topology::Topology load_machine(const std::string& name_or_path, TableKind kind,
                                const ClassRates& rates) {
  std::error_code error;
  if (kind != TableKind::none ||
      std::filesystem::is_regular_file(name_or_path, error)) {
    const std::string text = read_file(name_or_path, "a readable file");
    if (kind != TableKind::none || !looks_like_json(text)) {
      return topology_from_table(text, kind, rates, name_or_path);
    }
  }
  require(rates.empty(),
          "[{}] got --rate for what is no table (--from nvidia-smi or "
          "rocm-smi); want rates of a built-in as its options, as in "
          "mesh:rate=50e9",
          name_or_path);
  return topology::load_topology(name_or_path);
}

}  // namespace ringweave::discovery
