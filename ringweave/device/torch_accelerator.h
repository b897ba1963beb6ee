// Accelerators that torch knows: CUDA, ROCm, XPU or what registers itself. Only
// the device-generic interface of c10 is used, which is in every build of
// torch, so this compiles and runs without any toolkit.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Stream.h>

#include "ringweave/device/accelerator.h"

namespace ringweave::device {

/// One object for each kind.
const Accelerator& torch_accelerator(at::DeviceType kind);

Device from_torch(at::Device device);
/// The reverse.
at::Device torch_device(const Device& device);

/// Whether there is memory on it, and work runs there: the CPU or an
/// accelerator.
bool computes(at::Device device);

/// The stream that operations of this thread are put on.
Stream current_stream(at::Device device);
inline Stream current_stream(const at::Tensor& tensor) {
  return current_stream(tensor.device());
}
/// Of an accelerator.
c10::Stream torch_stream(const Stream& stream);

}  // namespace ringweave::device
