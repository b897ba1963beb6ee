// Memory of the device, pinned memory, and what is known of either.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Allocator.h>
#include <c10/core/Storage.h>

#include "ringweave/device/simulated/state.h"

namespace ringweave::device::simulated {

struct Block {
  Book book;
  void* data;
  std::size_t size;
  ActorId owner;              ///< the stream that it goes back to; -1: pinned
  c10::Storage kernels = {};  ///< whose memory it is, if not ours
  std::vector<ActorId> recorded = {};  ///< by record_stream()
};

/// On the current device, for its current stream.
c10::Allocator* device_allocator();
c10::Allocator* pinned_allocator();
bool is_pinned(const void* data);

/// What is known of some memory; null if it is neither of the device nor
/// pinned, or empty.
Block* block_of(const c10::DataPtr& data);
inline Block* block_of(const at::Tensor& tensor) {
  return tensor.has_storage() ? block_of(tensor.storage().data_ptr()) : nullptr;
}

/// An access to what a tensor covers.
void access(State& state, const Operation& operation, const at::Tensor& tensor,
            bool writes);

/// Makes what a kernel of the CPU allocated memory of `device`, which
/// `operation` has written.
c10::DataPtr adopt(State& state, const c10::Storage& storage,
                   c10::Device device, const Operation& operation);

}  // namespace ringweave::device::simulated
