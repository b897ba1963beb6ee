#include "ringweave/device/simulated/memory.h"

#include <memory>
#include <utility>

#include <c10/core/CPUAllocator.h>
#include <fmt/format.h>

#include "ringweave/device/simulated/host_threads.h"
#include "ringweave/device/simulated/streams.h"

namespace ringweave::device::simulated {
namespace {

constexpr int kPinned = kDevices;  // in State::blocks

std::unique_ptr<Block> make_block(State& state, int place, void* data,
                                  std::size_t size, ActorId owner) {
  const int number = state.blocks.at(place)++;
  std::string name = place == kPinned ? fmt::format("pinned#{}", number)
                                      : fmt::format("sim:{}#{}", place, number);
  return std::make_unique<Block>(
      Block{.book = {.name = std::move(name), .accesses = {}},
            .data = data,
            .size = size,
            .owner = owner});
}

void free_on_device(void* context) {
  // Goes after the lock: it may hold the last reference to a storage.
  const std::unique_ptr<Block> block(static_cast<Block*>(context));
  const LockedState state;
  state->order.freed(block->owner, this_host(*state), block->recorded,
                     block->book, block->size);
  if (!block->kernels) c10::GetCPUAllocator()->raw_deallocate(block->data);
}

/// Nothing to check: CUDA's allocator of pinned memory waits for copies itself.
void free_pinned(void* context) {
  const std::unique_ptr<Block> block(static_cast<Block*>(context));
  const LockedState state;
  state->pinned.erase(reinterpret_cast<std::uintptr_t>(block->data));
  c10::GetCPUAllocator()->raw_deallocate(block->data);
}

class DeviceAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t size) override {
    const c10::Device device = simulated::device(current_device());
    if (size == 0) return {nullptr, device};
    void* const data = c10::GetCPUAllocator()->raw_allocate(size);
    const LockedState state;
    const ActorId owner = current_actor(*state, device);
    auto block = make_block(*state, device.index(), data, size, owner);
    if (state->settings.check_fresh_memory) {
      state->order.allocated(owner, block->book, size);
    }
    return {data, block.release(), &free_on_device, device};
  }

  void copy_data(void* to, const void* from, std::size_t size) const override {
    default_copy_data(to, from, size);
  }
};

class PinnedAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t size) override {
    if (size == 0) return {nullptr, c10::Device(c10::kCPU)};
    void* const data = c10::GetCPUAllocator()->raw_allocate(size);
    const LockedState state;
    state->pinned[reinterpret_cast<std::uintptr_t>(data)] = size;
    auto block = make_block(*state, kPinned, data, size, -1);
    return {data, block.release(), &free_pinned, c10::Device(c10::kCPU)};
  }

  void copy_data(void* to, const void* from, std::size_t size) const override {
    default_copy_data(to, from, size);
  }
};

}  // namespace

c10::Allocator* device_allocator() {
  static auto* const allocator = new DeviceAllocator;
  return allocator;
}

c10::Allocator* pinned_allocator() {
  static auto* const allocator = new PinnedAllocator;
  return allocator;
}

bool is_pinned(const void* data) {
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  const LockedState state;
  auto after = state->pinned.upper_bound(address);
  if (after == state->pinned.begin()) return false;
  const auto& [start, size] = *--after;
  return address < start + size;
}

Block* block_of(const c10::DataPtr& data) {
  const bool known = data.get_deleter() == &free_on_device ||
                     data.get_deleter() == &free_pinned;
  return known ? static_cast<Block*>(data.get_context()) : nullptr;
}

void access(State& state, const Operation& operation, const at::Tensor& tensor,
            bool writes) {
  if (Block* const block = block_of(tensor)) {
    state.order.access(operation, block->book, bytes_of(tensor), writes);
  }
}

c10::DataPtr adopt(State& state, const c10::Storage& storage,
                   c10::Device device, const Operation& operation) {
  void* const data = const_cast<void*>(storage.data());
  if (!data) return {nullptr, device};
  auto block = make_block(state, device.index(), data, storage.nbytes(),
                          operation.actor);
  block->kernels = storage;
  state.order.access(operation, block->book, first_bytes(block->size), true);
  return {data, block.release(), &free_on_device, device};
}

}  // namespace ringweave::device::simulated
