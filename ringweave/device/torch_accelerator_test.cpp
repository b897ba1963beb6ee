#include "ringweave/device/torch_accelerator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/device/scratch.h"
#include "ringweave/device/simulated/caller_streams.h"
#include "ringweave/device/simulated/simulated.h"
#include "ringweave/device/tensor_buffer.h"

namespace ringweave::device {
namespace {

Stream stream_of(int index, bool pooled = false) {
  const at::Device device = simulated::device(index);
  const c10::impl::VirtualGuardImpl guard(device.type());
  return {from_torch(device), pooled
                                  ? guard.getStreamFromGlobalPool(device).id()
                                  : guard.getDefaultStream(device).id()};
}

TEST(TorchAccelerator, TellsDevicesAndStreams) {
  EXPECT_TRUE(from_torch(at::kCPU).is_host());
  EXPECT_EQ(current_stream(at::kCPU), Stream());
  const Device third = from_torch(simulated::device(3));
  EXPECT_FALSE(third.is_host());
  EXPECT_EQ(third.index, 3);
  EXPECT_EQ(torch_device(third), simulated::device(3));
  const Stream stream = stream_of(3, true);
  const c10::StreamGuard guard(torch_stream(stream));
  EXPECT_EQ(current_stream(simulated::device(3)), stream);
}

TEST(TorchAccelerator, TensorsAreBuffersAndBack) {
  const at::Tensor tensor =
      at::arange(12, at::kDouble).to(simulated::device(2));
  const Buffer buffer = buffer_of(tensor.narrow(0, 4, 6));
  EXPECT_EQ(buffer.size, 48u);
  const at::Tensor part = tensor_of(buffer.slice(16, 32), {2, 2}, at::kDouble);
  EXPECT_EQ(part.device(), simulated::device(2));
  part.mul_(-1);
  EXPECT_TRUE(at::equal(tensor.cpu(), at::tensor({0., 1., 2., 3., 4., 5., -6.,
                                                  -7., -8., -9., 10., 11.},
                                                 at::kDouble)));
  EXPECT_THROW(tensor_of(buffer.slice(4, 8), {1}, at::kDouble), InternalError);
}

TEST(TensorBuffer, SharesTheTensorsMemory) {
  at::Tensor tensor = at::arange(6, at::kDouble);
  Buffer buffer = buffer_of(tensor.narrow(0, 2, 3));
  EXPECT_EQ(buffer.data, static_cast<std::byte*>(tensor.data_ptr()) + 16);
  EXPECT_EQ(buffer.size, 24u);
  EXPECT_EQ(buffer.device, Device{});
  tensor.reset();
  const at::Tensor bytes = tensor_of(buffer.slice(8, 16));
  buffer = {};
  EXPECT_TRUE(bytes.view(at::kDouble).equal(at::tensor({3., 4.}, at::kDouble)));
}

TEST(TorchAccelerator, CopiesBehindBothMarks) {
  for (const auto& [from, to] : {std::pair(0, 1), {1, 1}}) {
    const Stream source = stream_of(from, true);
    const Stream target = stream_of(to, true);
    const auto lane =
        source.device.accelerator->lane(source.device, target.device);
    at::Tensor bytes, arrived;
    {
      const c10::StreamGuard guard(torch_stream(source));
      bytes = at::full({8}, 7.0, at::device(simulated::device(from)));
    }
    {
      const c10::StreamGuard guard(torch_stream(target));
      arrived = at::zeros({8}, at::device(simulated::device(to)));
    }
    const SharedMark done = lane->copy(buffer_of(bytes), *mark(source),
                                       buffer_of(arrived), *mark(target));
    done->block(target);
    done->block(source);
    const c10::StreamGuard guard(torch_stream(target));
    EXPECT_EQ(arrived.sum().item<float>(), 56);
    EXPECT_TRUE(all_ordered());
  }
}

TEST(Scratch, IsTheSameForEachPassWhateverItsStream) {
  Scratch scratch;
  const std::byte* data = nullptr;
  for (int pass = 0; pass < 5; ++pass) {
    const Stream stream = stream_of(1, true);
    const c10::StreamGuard guard(torch_stream(stream));
    const Buffer buffer = scratch.get(64, stream);
    EXPECT_EQ(buffer.device, stream.device);
    if (data != nullptr) {
      EXPECT_EQ(buffer.data, data);
    }
    data = buffer.data;
    tensor_of(buffer).fill_(pass);
  }
  EXPECT_NE(scratch.get(4096, stream_of(1)).size, 0u);
  EXPECT_TRUE(all_ordered());
}

}  // namespace
}  // namespace ringweave::device
