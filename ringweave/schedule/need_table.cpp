#include "ringweave/schedule/need_table.h"

namespace ringweave::schedule {
namespace {

constexpr int kAnswersPerByte = 4;  // each 0 (not asked yet), or 1 + Strands

}  // namespace

NeedTable::NeedTable(const Demand& demand, int strands)
    : demand_(demand), ranks_(demand.ranks()), strands_(strands) {
  // One rank's part takes some tens of bytes per owner, strand and part.
  constexpr std::int64_t kBytesMade = 16;
  if (kBytesMade * kAnswersPerByte * strands < ranks_) return;
  std::size_t parts = 0;
  for (Rank owner = 0; owner < ranks_; ++owner) {
    first_.push_back(parts);
    parts += demand.parts(owner);
  }
  answers_.resize(parts * ranks_ / kAnswersPerByte + 1);
  users_.resize(parts);
}

bool NeedTable::needs(Rank rank, const BlockId& block) {
  if (remembers()) {
    const Strands needed = strands_needed(rank, block.owner, block.part);
    if (needed != Strands::some) return needed == Strands::all;
  }
  return demand_.needs(rank, block, strands_);
}

const std::vector<Rank>& NeedTable::users(Rank owner, int part) {
  std::vector<Rank>& users = users_[first_[owner] + part];
  if (!users.empty()) return users;
  for (Rank rank = 0; rank < ranks_; ++rank) {
    if (rank != owner && strands_needed(rank, owner, part) != Strands::none) {
      users.push_back(rank);
    }
  }
  return users;
}

Strands NeedTable::strands_needed(Rank rank, Rank owner, int part) {
  const std::size_t place = (first_[owner] + part) * ranks_ + rank;
  std::uint8_t& answers = answers_[place / kAnswersPerByte];
  const auto shift = place % kAnswersPerByte * 2;
  const unsigned answer = answers >> shift & 3U;
  if (answer > 0) return static_cast<Strands>(answer - 1);
  const Strands found = demand_.strands_needed(rank, owner, part, strands_);
  answers |= (1U + static_cast<unsigned>(found)) << shift;
  return found;
}

}  // namespace ringweave::schedule
