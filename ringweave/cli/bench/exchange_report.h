// What benchmarks of exchanges measured, and how it is printed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ringweave/base/json.h"
#include "ringweave/base/range.h"
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

/// What took the place of computing.
struct EmulatedCompute {
  double seconds = 0;        ///< of the rank that computes longest
  double step_seconds = 0;   ///< the longest step of a rank
  double alone_seconds = 0;  ///< before and after all steps; 0: of attention
  /// Of the transfers without it, as simulated, if they were.
  std::optional<double> transfer_seconds = {};

  int steps = 1;  ///< in which messages are posted

  /// What a schedule that overlaps perfectly takes: the longer one of transfers
  /// and of the computing in steps, and what has nothing to overlap with. That
  /// is the computing before and after all steps, or where there is none a
  /// step.
  std::optional<double> overlapped_seconds() const;
};

struct ExchangeReport {
  struct Link {
    Rank from = 0;
    Rank to = 0;
    std::int64_t bytes = 0;
  };

  ExchangeCase of;
  std::vector<ExchangeRun> runs = {};
  std::vector<double> bare_seconds = {};  ///< none for emulated compute
  std::vector<Link> links = {};  ///< from one rank to another, if any bytes go
  std::optional<EmulatedCompute> emulated = {};
  std::optional<double> bound_seconds = {};  ///< of transfers alone
  /// By the simulator, if that was built in.
  std::optional<double> predicted_seconds = {};
  std::optional<double> cost_model_seconds = {};

  std::int64_t busiest_link_bytes() const;
};

/// Of one rank's messages to another, while each rank sends to one other.
struct LinkRate {
  Rank from = 0;
  Rank to = 0;
  double bytes_per_second = 0;
};

struct Links {
  std::vector<LinkRate> rates = {};
  bool busy = false;  ///< the processor was: rates don't tell links apart
};

struct ExchangeRuns {
  std::vector<ExchangeReport> reports;
  std::optional<Links> links = {};  ///< none: ranks are no processes
};

/// {"cases": [{"name", "pass", "bytes", "seconds", …}]}, and of processes
/// "median_link_bytes_per_second" and "slow_links", null if they can't be told.
Json to_json(const ExchangeRuns& runs);
/// A table with a row per report; then the links below half of the median rate,
/// or that they can't be told.
std::string text(const ExchangeRuns& runs);

}  // namespace ringweave::cli
