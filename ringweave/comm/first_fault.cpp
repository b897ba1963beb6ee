#include "ringweave/comm/first_fault.h"

#include <algorithm>
#include <vector>

namespace ringweave::comm {

void before_common_error(Communicator& communicator) {
  try {
    communicator.barrier();
  } catch (const CommError&) {  // a peer was through the barrier earlier
  }
}

std::string first_fault(const std::string& fault, Communicator& communicator) {
  const std::vector<std::string> faults = communicator.all_gather(fault);
  const auto first = std::ranges::find_if(
      faults, [](const std::string& text) { return !text.empty(); });
  if (first == faults.end()) return "";
  before_common_error(communicator);
  const bool shared = std::ranges::count(faults, *first) == std::ssize(faults);
  return shared ? *first
                : fmt::format("rank {}: {}", first - faults.begin(), *first);
}

}  // namespace ringweave::comm
