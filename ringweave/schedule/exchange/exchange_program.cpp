#include "ringweave/schedule/exchange/exchange_program.h"

#include <algorithm>
#include <map>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/schedule/program/own_block.h"

namespace ringweave::schedule {
namespace {

[[noreturn]] void not_retained(const BlockId& block, Rank rank) {
  throw InvalidArgument(fmt::format(
      "[exchange] got a schedule in which rank {} does not retain part {} of "
      "strand {} of rank {}, which it needs; want one that brings it",
      rank, block.part, block.strand, block.owner));
}

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
    if (found == program_.kept.end()) not_retained(block, program_.rank);
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

/// Of a way in which ranks compose.
class FoldMaker {
 public:
  FoldMaker(const ScanDemand& demand, const Schedule& part, Rank rank,
            ExchangeProgram& result)
      : demand_(demand),
        rank_(rank),
        result_(result),
        own_(demand, rank, demand.strands()),
        held_(demand, rank),
        arrivals_(part.steps + 1) {
    std::map<BlockId, int> first_post;
    for (const Transfer& transfer : part.transfers) {
      if (transfer.to == rank) {
        arrivals_[transfer.wait_step].push_back(transfer.block);
      } else if (transfer.from == rank && transfer.source_slot == kOwn) {
        first_post.try_emplace(transfer.block, transfer.post_step);
      }
    }
    for (const auto& [block, step] : first_post) {
      outgoing_.push_back({block, demand.composed(block), step});
    }
    // What is made first is a piece of what comes next.
    std::ranges::stable_sort(
        outgoing_, {}, [](const Outgoing& it) { return it.what.places.end; });
  }

  void run() {
    result_.blocks.resize(arrivals_.size());
    for (std::size_t step = 0; step < arrivals_.size(); ++step) {
      for (const BlockId& block : arrivals_[step]) arrive(block);
      if (step == 0 || !arrivals_[step].empty()) make_blocks(step);
    }
    require(outgoing_.empty(),
            "[exchange] got a schedule in which rank {} sends what it can't "
            "compose; want one in which all of that arrives before",
            rank_);
    for (const Composed& what : demand_.results(rank_)) {
      result_.results.push_back(fold(what, {}, found(what)));
    }
  }

 private:
  using Pieces = std::vector<Holdings::Piece>;

  struct Outgoing {
    BlockId block;
    Composed what;
    int post_step = 0;
  };

  void arrive(const BlockId& block) {
    held_.add(block);
    const Composed what = demand_.composed(block);
    if (what.decay && what.places.size() == 1 &&
        demand_.states().pass == Pass::forward) {
      result_.brought.push_back({static_cast<int>(what.places.begin),
                                 demand_.decays(what.slice), place_of(block)});
    }
  }

  /// As soon as it can be done.
  void make_blocks(std::size_t step) {
    std::erase_if(outgoing_, [&](const Outgoing& it) {
      const auto pieces = held_.pieces(it.what);
      if (!pieces || static_cast<int>(step) > it.post_step) return false;
      result_.blocks[step].push_back(
          fold(it.what, own_.place(it.block), *pieces));
      held_.add(it.block);
      return true;
    });
  }

  Pieces found(const Composed& what) const {
    auto pieces = held_.pieces(what);
    if (pieces) return std::move(*pieces);
    throw InvalidArgument(fmt::format(
        "[exchange] got a schedule in which rank {} can't compose segments {} "
        "… {}; want one that brings what it takes",
        rank_, what.places.begin, what.places.end - 1));
  }

  Fold fold(const Composed& what, const Place& target,
            const Pieces& pieces) const {
    Fold fold{.what = what,
              .rows = demand_.rows(what.slice),
              .decays = demand_.decays(what.slice),
              .target = target,
              .terms = {}};
    if (what.decay) {
      fold.terms.push_back({what.places, {}, decays(pieces)});
      return fold;
    }
    for (const Holdings::Piece& piece : pieces) {
      Fold::Term term{piece.places, memory(piece), {}};
      // The first own segment decays the initial state.
      if (!fold.terms.empty() || (piece.places.begin == 0 && !piece.block)) {
        term.decays =
            demand_.has_decays()
                ? decays(found({piece.places, what.slice, true}))
                : std::vector<Fold::Decay>{{piece.places, std::nullopt}};
      }
      fold.terms.push_back(std::move(term));
    }
    return fold;
  }

  std::vector<Fold::Decay> decays(const Pieces& pieces) const {
    std::vector<Fold::Decay> decays;
    for (const Holdings::Piece& piece : pieces) {
      decays.push_back({piece.places, memory(piece)});
    }
    return decays;
  }

  std::optional<Place> memory(const Holdings::Piece& piece) const {
    if (!piece.block) return std::nullopt;
    return place_of(*piece.block);
  }

  Place place_of(const BlockId& block) const {
    if (block.owner == rank_) return own_.place(block);
    const auto found = result_.program.kept.find(block);
    if (found == result_.program.kept.end()) not_retained(block, rank_);
    return found->second;
  }

  const ScanDemand& demand_;
  const Rank rank_;
  ExchangeProgram& result_;
  const OwnBlock own_;
  Holdings held_;
  std::vector<std::vector<BlockId>> arrivals_;  // [step]
  std::vector<Outgoing> outgoing_;              // what is not made yet
};

/// Of a way in which summaries travel.
void find_summaries(const SummaryDemand& demand, int strands,
                    const StateDemand& states, ExchangeProgram& result) {
  const Rank rank = result.program.rank;
  const Finder finder(result.program, demand, strands);
  for (const StateDemand::Segment& segment : states.segments) {
    const auto find = [&](int part, std::int64_t rows, std::int64_t width) {
      // Of others, some strands may come only to be passed on.
      return segment.rank == rank || demand.needs(rank, segment.rank, part)
                 ? finder.strips(segment.rank, part, rows, width)
                 : std::vector<Strips>();
    };
    result.summaries.push_back(
        {find(demand.decay_part(segment), demand.decays(), 1),
         find(demand.update_part(segment), states.summary.rows,
              states.summary.width)});
  }
}

}  // namespace

ExchangeProgram compile(const StateExchange& exchange,
                        const StateDemand& states, Rank rank) {
  const int strands = exchange.strands(states.ranks);
  const Schedule part = exchange.schedule(states, rank);
  ExchangeProgram result;
  result.shape = states.summary;
  if (const auto demand = exchange.scan(states)) {
    result.composes = true;
    result.program = compile_summaries(part, rank, *demand, demand->strands());
    FoldMaker(*demand, part, rank, result).run();
    return result;
  }
  const SummaryDemand demand(states);
  result.program = compile_summaries(part, rank, demand, strands);
  find_summaries(demand, strands, states, result);
  return result;
}

}  // namespace ringweave::schedule
