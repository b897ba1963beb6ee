#include "ringweave/device/simulated/simulated.h"

#include <utility>

#include "ringweave/device/simulated/host_threads.h"
#include "ringweave/device/simulated/memory.h"

namespace ringweave::device::simulated {

std::vector<Report> take_reports() {
  const LockedState state;
  return state->order.take_reports();
}

void settle() {
  const LockedState state;
  const ActorId host = this_host(*state);
  for (const std::vector<ActorId>& streams : state->streams) {
    for (const ActorId stream : streams) {
      if (stream >= 0) state->order.order(stream, host);
    }
  }
  state->order.take_reports();
}

void label(const at::Tensor& tensor, std::string name) {
  const LockedState state;
  if (Block* const block = block_of(tensor)) block->book.name = std::move(name);
}

void configure(const Settings& settings) {
  const LockedState state;
  state->settings = settings;
}

}  // namespace ringweave::device::simulated
