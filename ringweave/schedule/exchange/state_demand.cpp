#include "ringweave/schedule/exchange/state_demand.h"

#include <algorithm>

namespace ringweave::schedule {

Range strand_rows(std::int64_t rows, int strand, int strands) {
  const std::int64_t least = rows / strands;
  const std::int64_t longer = rows % strands;
  const std::int64_t begin =
      strand * least + std::min<std::int64_t>(strand, longer);
  return {begin, begin + least + (strand < longer ? 1 : 0)};
}

SummaryDemand::SummaryDemand(const StateDemand& states)
    : shape_(states.summary), places_(states.ranks) {
  if (states.end_everywhere) {
    readers_ = Readers::all;
  } else if (!states.causal) {
    readers_ = Readers::holders;
  } else {
    readers_ = states.pass == Pass::forward ? Readers::later : Readers::earlier;
  }
  if (states.pass == Pass::backward) shape_.decays = 0;
  for (std::size_t place = 0; place < states.segments.size(); ++place) {
    places_[states.segments[place].rank].push_back(static_cast<int>(place));
  }
}

std::int64_t SummaryDemand::size(const BlockId& block, int strands) const {
  if (block.part < parts(block.owner) / 2) {
    return strand_rows(shape_.decays, block.strand, strands).size();
  }
  return strand_rows(shape_.rows, block.strand, strands).size() * shape_.width;
}

bool SummaryDemand::needs(Rank rank, const BlockId& block, int strands) const {
  return size(block, strands) > 0 && needs(rank, block.owner, block.part);
}

bool SummaryDemand::needs(Rank rank, Rank owner, int part) const {
  if (readers_ == Readers::all) return true;
  if (places_[rank].empty()) return false;
  const int segments = parts(owner) / 2;
  if (part < segments || readers_ == Readers::holders) return true;
  const int place = places_[owner][part - segments];
  return readers_ == Readers::later ? places_[rank].back() > place
                                    : places_[rank].front() < place;
}

}  // namespace ringweave::schedule
