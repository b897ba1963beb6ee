// Accesses of the host to pinned memory, by torch's operations on CPU tensors.
#pragma once

namespace ringweave::device::simulated {

/// Of this thread, and of what torch runs for it in others.
void watch_this_thread(bool on);

}  // namespace ringweave::device::simulated
