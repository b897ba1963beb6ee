// The machine's memory, and what this process has of it.
#pragma once

#include <cstdint>
#include <string_view>

namespace ringweave {

/// Refuses work that this machine's memory can't hold before it is begun:
/// memory that is taken piece by piece never fails, the kernel ends the
/// process. Throws InvalidArgument, "[train] got a model that takes at least 64
/// GB; want at most 25.3 GB, this machine's memory", if `bytes` are more than
/// there is. `subject`: "[train] got a model".
void require_memory(double bytes, std::string_view subject);

/// The most resident bytes that this process had since its start, or since
/// reset_peak_memory().
std::int64_t peak_memory();
/// Gives free memory of the heap back, and forgets the peak so far. Returns
/// false where the kernel does not let it.
bool reset_peak_memory();

}  // namespace ringweave
