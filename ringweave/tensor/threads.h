// The number of threads that an operation of torch uses.
#pragma once

#include <ATen/Parallel.h>

namespace ringweave::tensor {

/// Makes this thread use the number that at::set_num_threads() was given. Each
/// thread that computes must call it once before its first operation: torch
/// tells a new thread the number at its first parallel operation, and until
/// then MKL would run each matrix product with a team of its own size.
inline void take_over_thread_count() {
  static_cast<void>(at::get_num_threads());
}

}  // namespace ringweave::tensor
