#include "ringweave/base/memory.h"

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

}  // namespace ringweave
