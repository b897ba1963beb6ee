#include "ringweave/schedule/decay.h"

#include "ringweave/base/error.h"
#include "ringweave/base/json.h"

namespace ringweave::schedule {

const std::vector<std::string>& decay_names() {
  // In the order of the enumerators.
  static const std::vector<std::string> names = {"none", "constant", "per_head",
                                                 "per_key"};
  return names;
}

std::string name(Decay decay) {
  return decay_names()[static_cast<std::size_t>(decay)];
}

Decay decay_from_name(const std::string& name) {
  return static_cast<Decay>(place_of(name, decay_names(), "decay"));
}

std::int64_t summary_decays(Decay decay, std::int64_t key_dim) {
  switch (decay) {
    case Decay::none:
    case Decay::constant:
      return 0;
    case Decay::per_head:
      return 1;
    case Decay::per_key:
      return key_dim;
  }
  throw InternalError("bug in ringweave: a decay without a size");
}

}  // namespace ringweave::schedule
