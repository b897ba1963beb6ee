// For tests: where they compute.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>

#include <ATen/core/Tensor.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "ringweave/base/long_form.h"

namespace ringweave::device {

/// Of random cases: 500 with RINGWEAVE_LONG=1, else fewer.
inline std::uint64_t random_cases() { return long_form() ? 500 : 60; }

/// The kind that RINGWEAVE_TEST_DEVICE names: cpu, which is the default, sim,
/// or an accelerator that torch has, such as cuda.
inline at::DeviceType test_device_type() {
  const char* name = std::getenv("RINGWEAVE_TEST_DEVICE");
  return at::Device(name ? name : "cpu").type();
}

/// How many there are.
inline int test_device_count() {
  if (test_device_type() == at::kCPU) return 1;
  return c10::impl::VirtualGuardImpl(test_device_type()).deviceCount();
}

/// A rank's: its own if there are enough.
inline at::Device test_device(int rank) {
  if (test_device_type() == at::kCPU) return at::kCPU;
  return {test_device_type(),
          static_cast<at::DeviceIndex>(rank % test_device_count())};
}

/// Whether ranks share one. Autograd has one thread per accelerator's device:
/// it can't run the backward passes of two ranks, which wait for each other.
/// They call backward functions themselves.
inline bool test_devices_are_shared(int ranks) {
  return test_device_type() != at::kCPU && ranks > test_device_count();
}

}  // namespace ringweave::device
