// Measures how long single tiles of attention take on a device.
#pragma once

#include <cstdint>
#include <string>

#include "ringweave/cli/bench/bench.h"

namespace ringweave::cli {

/// Times square tiles of 64, 128, … up to options.tokens rows and keys, forward
/// and (unless forward_only) backward, on options.threads threads; each the
/// median of options.repeat runs after one that is not counted. Writes a
/// ringweave.device_table to `path`.
void save_device_table(const BenchOptions& options, std::int64_t kv_heads,
                       const std::string& path);

}  // namespace ringweave::cli
