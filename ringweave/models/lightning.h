// The decay of Lightning attention.
#pragma once

#include <cstdint>
#include <vector>

namespace ringweave::models {

/// ALiBi's slopes: 2^(-8 (h+1) / heads) for a power of two; otherwise those of
/// the power of two below, followed by every second one of twice as many.
std::vector<double> alibi_slopes(std::int64_t heads);

/// Log decay per token of each head: the slopes, times a factor that falls from
/// just above 1 in the first layer to just above 0 in the last, so that later
/// layers look further back. All are below 0.
std::vector<double> lightning_decay(std::int64_t heads, std::int64_t layer,
                                    std::int64_t layers);

}  // namespace ringweave::models
