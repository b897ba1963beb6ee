// Random numbers that are the same everywhere.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "ringweave/base/splitmix.h"

namespace ringweave::topology {

/// SplitMix64: the standard library's distributions differ between
/// implementations, and all ranks must find the same rings and trees.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t bits() {
    const std::uint64_t number = splitmix64(state_);
    state_ += kSplitMixStep;
    return number;
  }
  int below(int n) {
    return static_cast<int>(((bits() >> 32) * static_cast<unsigned>(n)) >> 32);
  }
  void shuffle(std::vector<int>& values) {
    for (int i = static_cast<int>(values.size()) - 1; i > 0; --i) {
      std::swap(values[i], values[below(i + 1)]);
    }
  }

 private:
  std::uint64_t state_;
};

}  // namespace ringweave::topology
