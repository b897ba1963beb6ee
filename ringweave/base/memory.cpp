#include "ringweave/base/memory.h"

#include <fstream>
#include <string>

#include <malloc.h>
#include <unistd.h>

#include "ringweave/base/error.h"

namespace ringweave {

void require_memory(double bytes, std::string_view subject) {
  const double memory = static_cast<double>(sysconf(_SC_PHYS_PAGES)) *
                        static_cast<double>(sysconf(_SC_PAGE_SIZE));
  constexpr double kGigabyte = 1e9;
  require(bytes <= memory,
          "{} that takes at least {:.3g} GB; want at most {:.3g} GB, this "
          "machine's memory",
          subject, bytes / kGigabyte, memory / kGigabyte);
}

std::int64_t peak_memory() {
  std::ifstream status("/proc/self/status");
  constexpr std::string_view kField = "VmHWM:";
  constexpr std::int64_t kKibibyte = 1024;
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(kField)) {
      return std::stoll(line.substr(kField.size())) * kKibibyte;
    }
  }
  throw Error("[memory] got no VmHWM in /proc/self/status; want Linux's");
}

bool reset_peak_memory() {
  malloc_trim(0);
  std::ofstream file("/proc/self/clear_refs");
  file << 5 << std::flush;  // proc(5): resets VmHWM
  return file.good();
}

}  // namespace ringweave
