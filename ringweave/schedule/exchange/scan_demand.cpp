#include "ringweave/schedule/exchange/scan_demand.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "ringweave/base/error.h"

namespace ringweave::schedule {

ScanDemand::ScanDemand(StateDemand states, int slices)
    : states_(std::move(states)), slices_(slices), order_(states_.segments) {
  require(states_.ranks >= 1, "[exchange] got {} ranks; want at least 1",
          states_.ranks);
  const SummaryShape& shape = states_.summary;
  require(shape.rows >= 1 && shape.width >= 1,
          "[exchange] got states of {} x {} numbers; want at least 1",
          shape.rows, shape.width);
  require(slices >= 1, "[exchange] got {} slices; want at least 1", slices);
  if (states_.pass == Pass::backward) std::ranges::reverse(order_);
  counts_.resize(states_.ranks);
  std::set<std::pair<Rank, int>> named;
  for (const auto& [rank, part] : order_) {
    require(rank >= 0 && rank < states_.ranks && part >= 0 && part < places(),
            "[exchange] got segment {} of rank {}; want ranks 0 … {} and "
            "segments 0 … {}",
            part, rank, states_.ranks - 1, places() - 1);
    require(named.insert({rank, part}).second,
            "[exchange] got segment {} of rank {} twice; want each once", part,
            rank);
    ++counts_[rank];
  }
}

Composed ScanDemand::composed(const BlockId& block) const {
  const std::optional<Composed> what = content(block);
  if (what) return *what;
  throw InvalidArgument(
      fmt::format("[exchange] got a schedule with part {} of strand {} of rank "
                  "{}; want blocks that there are",
                  block.part, block.strand, block.owner));
}

std::int64_t ScanDemand::size(const BlockId& block, int strands) const {
  const std::optional<Composed> what = content(block);
  if (!what) return 0;
  return what->decay ? decays(what->slice).size()
                     : rows(what->slice).size() * states_.summary.width;
}

Range ScanDemand::decays(int slice) const {
  const Range used = rows(slice);
  const SummaryShape& shape = states_.summary;
  if (used.empty() || shape.decays == 0) return {};
  return {used.begin * shape.decays / shape.rows,
          ceil_div(used.end * shape.decays, shape.rows)};
}

bool ScanDemand::needs_end(Rank rank) const {
  if (places() == 0) return false;
  return states_.end_everywhere || order_.back().rank == rank ||
         (!states_.causal && counts_[rank] > 0);
}

std::vector<Composed> ScanDemand::results(Rank rank) const {
  std::vector<int> ends;
  for (int place = 1; states_.causal && place < places(); ++place) {
    if (order_[place].rank == rank) ends.push_back(place);
  }
  if (needs_end(rank)) ends.push_back(places());
  std::vector<Composed> results;
  for (const int end : ends) {
    for (int slice = 0; slice < slices_; ++slice) {
      if (!rows(slice).empty()) results.push_back({{0, end}, slice});
    }
  }
  return results;
}

void Holdings::add(const BlockId& block) {
  const Composed what = demand_.composed(block);
  held_[{what.slice, what.decay, what.places.begin}].push_back(
      {what.places, block});
}

std::vector<Holdings::Piece> Holdings::starting_at(const Composed& what) const {
  const auto& [places, slice, decay] = what;
  const auto found = held_.find({slice, decay, places.begin});
  std::vector<Piece> all;
  if (found != held_.end()) {
    std::ranges::copy_if(found->second, std::back_inserter(all),
                         [&](const Piece& piece) {
                           return piece.places.end <= what.places.end;
                         });
  }
  const auto place = static_cast<int>(places.begin);
  if (decay ? demand_.knows_decay(rank_, place, slice)
            : demand_.segment(place).rank == rank_) {
    all.push_back({{place, place + 1}, {}});
  }
  return all;
}

bool Holdings::has_decay(const Range& places, int slice) const {
  return !demand_.has_decays() || pieces({places, slice, true});
}

std::optional<std::vector<Holdings::Piece>> Holdings::pieces(
    const Composed& what) const {
  const auto& [places, slice, decay] = what;
  // Of the first segments, as many as the index says.
  struct Way {
    int pieces = -1;  // -1: none
    Piece last = {};
  };
  std::vector<Way> ways(places.size() + 1);
  ways[0].pieces = 0;
  for (std::int64_t begin = places.begin; begin < places.end; ++begin) {
    const int before = ways[begin - places.begin].pieces;
    if (before < 0) continue;
    for (const Piece& piece :
         starting_at({{begin, places.end}, slice, decay})) {
      Way& way = ways[piece.places.end - places.begin];
      if (way.pieces >= 0 && way.pieces <= before + 1) continue;
      if (before > 0 && !decay && !has_decay(piece.places, slice)) continue;
      way = {before + 1, piece};
    }
  }
  std::vector<Piece> all;
  for (std::int64_t end = places.end; end > places.begin;
       end = all.back().places.begin) {
    const Way& way = ways[end - places.begin];
    if (way.pieces < 0) return std::nullopt;
    all.push_back(way.last);
  }
  std::ranges::reverse(all);
  return all;
}

}  // namespace ringweave::schedule
