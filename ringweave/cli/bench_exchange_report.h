// What `bench exchange` measured, and how it is printed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ringweave/base/json.h"
#include "ringweave/schedule/schedule.h"

namespace ringweave::cli {

/// What a row of the report is of.
struct ExchangeCase {
  std::string name;  ///< of the strategy, or of the exchange of states
  schedule::Pass pass = schedule::Pass::forward;
  std::int64_t bytes = 0;  ///< of a shard's keys and values, or of a state
};

/// Over ranks: the slowest one's seconds.
struct ExchangeRun {
  double seconds = 0;
  double waiting_share = 0;    ///< mean over ranks
  double processor_share = 0;  ///< of the busiest host's cores
};

struct ExchangeReport {
  ExchangeCase of;
  std::vector<ExchangeRun> runs = {};
  std::vector<double> bare_seconds = {};
  std::int64_t busiest_link_bytes = 0;  ///< sent from one rank to another
  std::optional<double> bound_seconds = {};
  std::optional<double> predicted_seconds = {};
};

Json to_json(const ExchangeReport& report);
/// A row per report.
std::string table(const std::vector<ExchangeReport>& reports);

}  // namespace ringweave::cli
