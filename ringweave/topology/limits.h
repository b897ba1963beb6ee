// The rates and latencies of links that are believed: what lies outside is a
// slip, and could make times that no double holds.
#pragma once

namespace ringweave::topology {

inline constexpr double kMinBytesPerSecond = 1;
inline constexpr double kMaxBytesPerSecond = 1e18;
inline constexpr double kMaxLatencySeconds = 1000;

// Both are false for NaN.
constexpr bool is_rate(double bytes_per_second) {
  return bytes_per_second >= kMinBytesPerSecond &&
         bytes_per_second <= kMaxBytesPerSecond;
}
constexpr bool is_latency(double seconds) {
  return seconds >= 0 && seconds <= kMaxLatencySeconds;
}

}  // namespace ringweave::topology
