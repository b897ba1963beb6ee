#include "ringweave/schedule/exchange/exchange_program.h"

#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/schedule/program/own_block.h"

namespace ringweave::schedule {
namespace {

class Finder {
 public:
  Finder(const Program& program, const Demand& demand, int strands)
      : program_(program),
        own_(demand, program.rank, strands),
        strands_(strands) {}

  /// Of `rows` rows of `width` units each, which are a part of an owner.
  std::vector<Strips> strips(Rank owner, int part, std::int64_t rows,
                             std::int64_t width) const {
    std::vector<Strips> result;
    for (int strand = 0; strand < strands_; ++strand) {
      const Range piece = strand_rows(rows, strand, strands_);
      if (piece.empty() || width == 0) continue;
      const BlockId block{owner, strand, part};
      const Place& place = place_of(block);
      if (!append(result, piece, place)) {
        result.push_back({place.memory, piece, 1, place.begin, place.size});
      }
    }
    return result;
  }

 private:
  const Place& place_of(const BlockId& block) const {
    if (block.owner == program_.rank) return own_.place(block);
    const auto found = program_.kept.find(block);
    require(found != program_.kept.end(),
            "[exchange] got a schedule in which rank {} does not retain part "
            "{} of strand {} of rank {}, which it needs; want one that brings "
            "it",
            program_.rank, block.part, block.strand, block.owner);
    return found->second;
  }

  static bool append(std::vector<Strips>& all, const Range& rows,
                     const Place& place) {
    if (all.empty()) return false;
    Strips& last = all.back();
    if (last.memory != place.memory || last.rows_per_strand() != rows.size()) {
      return false;
    }
    const std::int64_t stride =
        last.strands == 1 ? place.begin - last.begin : last.stride;
    if (stride < place.size ||
        last.begin + last.strands * stride != place.begin) {
      return false;
    }
    last.stride = stride;
    last.rows.end = rows.end;
    ++last.strands;
    return true;
  }

  const Program& program_;
  OwnBlock own_;
  int strands_;
};

}  // namespace

ExchangeProgram compile(const StateExchange& exchange,
                        const StateDemand& states, Rank rank) {
  ExchangeProgram result{.arrival = exchange.arrival(),
                         .shape = states.summary,
                         .program = {},
                         .summaries = {}};
  const SummaryShape& shape = result.shape;
  const Schedule part = exchange.schedule(states, rank);
  result.summaries.resize(states.segments.size());
  if (result.arrival == StateExchange::Arrival::composed) {
    const ChainDemand demand = chain_demand(states);
    result.program = compile_summaries(part, rank, demand, 1);
    const Finder finder(result.program, demand, 1);
    for (std::size_t place = 0; place < states.segments.size(); ++place) {
      const auto [owner, index] = states.segments[place];
      if (owner != rank) continue;
      result.summaries[place].update =
          finder.strips(owner, index, shape.rows, shape.width);
    }
    return result;
  }
  const SummaryDemand demand(states);
  const int strands = exchange.strands(states.ranks);
  result.program = compile_summaries(part, rank, demand, strands);
  const Finder finder(result.program, demand, strands);
  for (std::size_t place = 0; place < states.segments.size(); ++place) {
    const ChainSpec::Segment& segment = states.segments[place];
    const auto find = [&](int part, std::int64_t rows, std::int64_t width) {
      // Of others, some strands may come only to be passed on.
      return segment.rank == rank || demand.needs(rank, segment.rank, part)
                 ? finder.strips(segment.rank, part, rows, width)
                 : std::vector<Strips>();
    };
    result.summaries[place] = {
        find(demand.decay_part(segment), shape.decays, 1),
        find(demand.update_part(segment), shape.rows, shape.width)};
  }
  return result;
}

}  // namespace ringweave::schedule
