// The ranks of a run that split the same sequences.
#pragma once

#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "ringweave/comm/communicator.h"
#include "ringweave/comm/subgroup.h"
#include "ringweave/config/train_config.h"

namespace ringweave::train {

/// This rank's group. What it refers to must outlive it.
class SequenceGroup {
 public:
  SequenceGroup(const config::ParallelConfig& parallel,
                comm::Communicator& whole)
      : index_(whole.rank() / parallel.sequence_ranks()), whole_(whole) {
    if (parallel.data == 1) return;
    std::vector<Rank> members(parallel.sequence_ranks());
    std::iota(members.begin(), members.end(),
              index_ * parallel.sequence_ranks());
    own_.emplace(comm::subgroup(whole.transport(), std::move(members)),
                 whole.time_outs());
  }

  /// Its place among the groups.
  int index() const { return index_; }
  comm::Communicator& communicator() { return own_ ? *own_ : whole_; }
  /// All that a rank sends by.
  std::vector<comm::Communicator*> all() {
    return own_ ? std::vector{&whole_, &*own_} : std::vector{&whole_};
  }

 private:
  int index_;
  comm::Communicator& whole_;
  std::optional<comm::Communicator> own_;
};

}  // namespace ringweave::train
