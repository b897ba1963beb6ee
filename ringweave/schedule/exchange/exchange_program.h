// One rank's exchange of states, compiled: its messages, and where in memory
// the numbers of every summary lie. Made once per pass and shape.
#pragma once

#include <vector>

#include "ringweave/schedule/exchange/state_exchange.h"
#include "ringweave/schedule/program/program.h"

namespace ringweave::schedule {

/// Rows of a summary as they lie in memory: those of `strands` strands, equally
/// many of each.
struct Strips {
  Memory memory = Memory::packed;
  Range rows;
  int strands = 1;
  std::int64_t begin = 0;   ///< in units, of the first strand
  std::int64_t stride = 0;  ///< from strand to strand

  std::int64_t rows_per_strand() const { return rows.size() / strands; }
};

struct ExchangeProgram {
  /// Few strips, which together are all rows; empty: not on this rank, or of
  /// size 0. Of own segments, where they are sent from.
  struct Summary {
    std::vector<Strips> decay;
    std::vector<Strips> update;  ///< composed: the state after the segment
  };

  StateExchange::Arrival arrival = StateExchange::Arrival::summaries;
  SummaryShape shape;
  Program program;
  std::vector<Summary> summaries;  ///< [segment]; composed: own ones only
};

/// Throws as StateExchange::strands(), and InvalidArgument for the schedule of
/// a kind that is none.
ExchangeProgram compile(const StateExchange& exchange,
                        const StateDemand& states, Rank rank);

}  // namespace ringweave::schedule
