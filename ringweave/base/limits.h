// The largest counts that are believed: no number from a file or a command line
// costs memory by itself, and no product of them overflows.
//
// Limits of one algorithm's effort stand with the algorithm.
#pragma once

#include <cstdint>

namespace ringweave {

/// Ranks, and nodes of ranks. Tables of one entry per rank stay small.
inline constexpr int kMaxRanks = 1 << 16;

/// Tokens of a sequence that is laid out over ranks.
inline constexpr std::int64_t kMaxTokens = std::int64_t{1} << 44;

/// Numbers per head of queries, keys and values.
inline constexpr std::int64_t kMaxHeadDim = 1 << 16;

/// Threads of one process. A team of more threads than the system grants ends
/// the process.
inline constexpr int kMaxThreads = 1024;

}  // namespace ringweave
