// What `bench model` measured, and how it is printed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ringweave/base/json.h"
#include "ringweave/cli/bench/messages_alone.h"
#include "ringweave/train/spent.h"

namespace ringweave::cli {

struct ModelReport {
  std::string softmax;  ///< the strategy; empty: no such layers
  std::string linear;   ///< the exchange of states; empty: no such layers
  std::int64_t seq_len = 0;
  std::int64_t tokens = 0;  ///< of a step
  std::vector<train::SpentByAll> steps = {};
  std::optional<double> loss = {};  ///< of the last step; none: emulated
  std::int64_t parameters = 0;
  /// Resident, at the peak, of a rank: of the process with the most, divided by
  /// its ranks. None where the kernel does not let it be measured.
  std::optional<std::int64_t> peak_memory_bytes = {};
  double processor_share = 0;  ///< of the busiest host's cores
  MessagesAlone alone = {};    ///< a step's of keys, values and states
};

/// One report. Times of parts are means over ranks.
Json to_json(const ModelReport& report);
/// A table with a row per report.
std::string table(const std::vector<ModelReport>& reports);

}  // namespace ringweave::cli
