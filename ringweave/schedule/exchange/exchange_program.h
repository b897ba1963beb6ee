// One rank's exchange of states, compiled: its messages, and where in memory
// the numbers of every summary lie. Made once per pass and shape.
#pragma once

#include <optional>
#include <vector>

#include "ringweave/schedule/exchange/scan_demand.h"
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

/// How a rank makes one block, or a state of its own, of what it has.
struct Fold {
  /// Logarithms of a decay: of segments that the rank knows, or in memory.
  struct Decay {
    Range places;
    std::optional<Place> memory;
  };
  /// Consecutive segments.
  struct Term {
    Range places;
    std::optional<Place> update;  ///< nullopt: of the rank's own segment
    /// Their sum; empty: nothing comes before that would decay. Of a fold of
    /// decays the only term has all of them.
    std::vector<Decay> decays;
  };

  Composed what;
  Range rows;               ///< of the state
  Range decays;             ///< of the numbers of a decay, those of the rows
  Place target;             ///< of a block
  std::vector<Term> terms;  ///< from the first segment to the last
};

struct ExchangeProgram {
  /// Few strips, which together are all rows; empty: not on this rank, or of
  /// size 0. Of own segments, where they are sent from.
  struct Summary {
    std::vector<Strips> decay;
    std::vector<Strips> update;
  };
  /// The decay of another rank's segment, which backward needs too.
  struct BroughtDecay {
    int place = 0;
    Range numbers;
    Place memory;
  };

  SummaryShape shape;
  Program program;
  /// Whether ranks compose (StateExchange::scan()): then there are folds, else
  /// summaries.
  bool composes = false;
  std::vector<Summary> summaries;  ///< [segment]
  /// [step] Blocks to make once the arrivals of the step are there, in order,
  /// before anything is sent. Each is in step 0, or in one with arrivals.
  std::vector<std::vector<Fold>> blocks;
  std::vector<Fold> results;  ///< to make in the end: ScanDemand::results()
  std::vector<BroughtDecay> brought;  ///< in forward
};

/// Throws as StateExchange::strands() and ScanDemand(), and InvalidArgument for
/// the schedule of a kind that is none.
ExchangeProgram compile(const StateExchange& exchange,
                        const StateDemand& states, Rank rank);

}  // namespace ringweave::schedule
