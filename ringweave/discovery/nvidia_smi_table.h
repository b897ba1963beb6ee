// The table that `nvidia-smi topo -m` prints, as it stands there.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "ringweave/discovery/pcie_tree.h"
#include "ringweave/discovery/table_text.h"

namespace ringweave::discovery {

/// What the table calls each Nearness that it tells.
inline constexpr std::array<const char*, 5> kSmiPcie = {"PIX", "PXB", "PHB",
                                                        "NODE", "SYS"};

/// How two devices are joined, in one cell.
struct SmiCell {
  int nvlinks = 0;  ///< of "NV4": 4
  Nearness pcie = Nearness::hidden;
  bool self = false;
  friend bool operator==(const SmiCell&, const SmiCell&) = default;
};

struct SmiDevice {
  std::string name;
  std::vector<SmiCell> cells;  ///< by column
  // Of GPUs; empty if they are not told.
  std::string cpus;
  std::string numa;
  std::string memory;  ///< the NUMA node of its own memory: beside a Grace
  bool found = false;  ///< it has a row
  std::string fault;   ///< why its row can't be used
};

/// The devices as the columns name them, GPUs first; NICs only if their rows
/// can be used.
struct SmiTable {
  std::vector<SmiDevice> devices;
  int gpus = 0;
  std::vector<std::string> notes;
};

/// As the table writes it.
std::string shown(const SmiCell& cell);

/// Throws InvalidArgument, with `where` in front, if the rows of GPUs can't be
/// used; NICs that can't be used are left out with a note.
SmiTable read_smi_table(const std::vector<TableLine>& lines,
                        const std::string& where);

}  // namespace ringweave::discovery
