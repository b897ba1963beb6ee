// How many tokens a linear layer computes together: a choice of its kernels,
// which the cost model counts with.
#pragma once

#include <cstdint>

namespace ringweave::schedule {

inline constexpr std::int64_t kLinearChunk = 64;

}  // namespace ringweave::schedule
