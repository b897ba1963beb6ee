#include "ringweave/discovery/class_rates.h"

#include <utility>

#include <fmt/ranges.h>

#include "ringweave/base/error.h"
#include "ringweave/topology/limits.h"

namespace ringweave::discovery {

ClassRates with_defaults(const ClassRates& rates, ClassRates defaults,
                         const std::function<bool(const std::string&)>& also,
                         const std::string& wanted, const std::string& where) {
  for (const auto& [name, rate] : rates) {
    require(defaults.contains(name) || also(name),
            "[{}] got a rate of class \"{}\"; want {}", where, name, wanted);
    require(topology::is_rate(rate),
            "[{}] got {} bytes per second of class {}; want {} … {}", where,
            rate, name, topology::kMinBytesPerSecond,
            topology::kMaxBytesPerSecond);
    defaults[name] = rate;
  }
  return defaults;
}

void check_used(const ClassRates& rates, const std::set<std::string>& used,
                const std::string& where) {
  for (const auto& [name, rate] : rates) {
    require(!used.empty(),
            "[{}] got a rate of class {} for a machine without a link; want "
            "none",
            where, name);
    require(used.contains(name),
            "[{}] got a rate of class {}, which no link of its GPUs has; want "
            "one of {}",
            where, name, fmt::join(used, ", "));
  }
}

}  // namespace ringweave::discovery
