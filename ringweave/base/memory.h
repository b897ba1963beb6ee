// Refuses work that this machine's memory can't hold before it is begun: memory
// that is taken piece by piece never fails, the kernel ends the process.
#pragma once

#include <string_view>

namespace ringweave {

/// Throws InvalidArgument, "[train] got a model that takes at least 64 GB; want
/// at most 25.3 GB, this machine's memory", if `bytes` are more than there is.
/// `subject`: "[train] got a model".
void require_memory(double bytes, std::string_view subject);

}  // namespace ringweave
