// What a step cost: time and what it went to, bytes; of one rank and over all.
#pragma once

#include <cstdint>
#include <vector>

#include "ringweave/comm/communicator.h"

namespace ringweave::train {

/// What one rank spent, on a step or on all.
struct Spent {
  double seconds = 0;
  double waiting_seconds = 0;
  // Of these, in the passes of softmax and of linear layers, and for sums of
  // gradients.
  double softmax_waiting_seconds = 0;
  double linear_waiting_seconds = 0;
  double gradient_waiting_seconds = 0;
  double optimizer_seconds = 0;  ///< without its waits
  std::int64_t bytes = 0;
  int stop = 0;  ///< what this rank was told

  Spent& operator+=(const Spent& more);
};

/// Of a time that each rank spent on something.
struct Shares {
  double mean = 0;
  double max = 0;
};

/// The same over ranks. `seconds` are the slowest rank's; the shares are of
/// these.
struct SpentByAll {
  double seconds = 0;
  Shares waiting;
  Shares softmax_waiting;
  Shares linear_waiting;
  Shares gradient_waiting;
  Shares optimizer;
  std::int64_t bytes = 0;
  int stop = 0;  ///< the largest
};

/// A collective; equal on all ranks.
SpentByAll gather(const Spent& mine, comm::Communicator& communicator);

/// Measures from its construction what goes by some communicators.
class Meter {
 public:
  explicit Meter(std::vector<comm::Communicator*> communicators);

  Spent spent() const;

 private:
  Spent so_far() const;

  std::vector<comm::Communicator*> communicators_;
  comm::Clock::time_point start_;
  Spent before_;
};

}  // namespace ringweave::train
