// Paired measurements of a split and the whole, and how they are printed.
#pragma once

#include <string>
#include <vector>

#include "ringweave/base/json.h"
#include "ringweave/base/range.h"
#include "ringweave/cli/bench/messages_alone.h"

namespace ringweave::cli {

struct BenchReport {
  struct Pair {
    double split_seconds = 0;  ///< until the last rank is done
    double whole_seconds = 0;
  };
  struct Link {
    Rank from = 0;
    Rank to = 0;
    std::int64_t sent_bytes = 0;
    std::int64_t planned_bytes = 0;
  };
  struct Buffers {
    Rank rank = 0;
    std::int64_t peak_bytes = 0;
    std::int64_t planned_bytes = 0;
  };
  std::string name;
  std::vector<Pair> pairs;
  std::vector<Link> links;
  std::vector<Buffers> buffers = {};  ///< by rank; empty: not measured
  double max_error = 0;      ///< max|a - b| / max(1, max|b|) over all results
  MessagesAlone alone = {};  ///< of one run
};

/// {"name", "ratio", "split_seconds", "whole_seconds", "tokens_per_second",
/// "max_error", "links", "buffers"}; ratio is split / whole, pair by pair.
/// And what messages_alone.h adds.
Json to_json(const BenchReport& report, std::int64_t tokens);

/// A table with a row per report, and the bytes of the links of each.
std::string table(const std::vector<BenchReport>& reports, std::int64_t tokens);

}  // namespace ringweave::cli
