// The number of threads that an operation of torch uses.
#pragma once

#include <algorithm>
#include <thread>

#include <ATen/Parallel.h>

namespace ringweave::tensor {

/// Makes this thread use the number that at::set_num_threads() was given. Each
/// thread that computes must call it once before its first operation: torch
/// tells a new thread the number at its first parallel operation, and until
/// then MKL would run each matrix product with a team of its own size.
inline void take_over_thread_count() {
  static_cast<void>(at::get_num_threads());
}

/// Sets torch's threads per operation, for the whole process: `threads`, or for
/// 0 an equal share of the cores among all `ranks`, at least 1. Processes of a
/// launcher may share this machine; how many do is not known here.
inline void set_threads(int threads, int ranks) {
  const int cores =
      std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  at::set_num_threads(threads > 0 ? threads : std::max(1, cores / ranks));
}

}  // namespace ringweave::tensor
