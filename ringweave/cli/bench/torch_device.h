// --device of `ringweave bench attention | linear`: which of torch's devices
// compute.
#pragma once

#include <string>

#include <ATen/core/Tensor.h>

#include "ringweave/base/range.h"

namespace ringweave::cli {

inline constexpr const char* kHostDevice = "cpu";

/// Throws InvalidArgument unless it is cpu, or a kind of accelerator, such as
/// cuda, of which torch finds a device.
void check_torch_device(const std::string& kind);

/// Where a rank computes: on the accelerator's devices in turn.
at::Device torch_device_of(const std::string& kind, Rank rank);

/// Blocks until the device has done what this thread's stream holds.
void wait_for_device(at::Device device);

}  // namespace ringweave::cli
