// SplitMix64: numbers that look random and are the same everywhere. Not for
// security.
//
// Source: Steele, Lea, Flood: Fast splittable pseudorandom number generators,
// OOPSLA 2014.
#pragma once

#include <cstdint>

namespace ringweave {

/// What a generator adds to its state per number.
inline constexpr std::uint64_t kSplitMixStep = 0x9e3779b97f4a7c15u;

/// The number after state `x`. Equal inputs give equal outputs, near inputs
/// unrelated ones.
inline std::uint64_t splitmix64(std::uint64_t x) {
  x += kSplitMixStep;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace ringweave
