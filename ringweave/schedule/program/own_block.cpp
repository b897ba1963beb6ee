#include "ringweave/schedule/program/own_block.h"

namespace ringweave::schedule {

OwnBlock::OwnBlock(const Demand& demand, Rank rank, int strands)
    : parts_(demand.parts(rank)) {
  for (int strand = 0; strand < strands; ++strand) {
    for (int part = 0; part < parts_; ++part) {
      const std::int64_t size = demand.size({rank, strand, part}, strands);
      places_.push_back({Memory::packed, size_, size});
      size_ += size;
    }
  }
}

}  // namespace ringweave::schedule
