// A rank that dies or stalls, for tests: a decorator of local ranks'
// transports.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "ringweave/base/error.h"
#include "ringweave/comm/transport.h"

namespace ringweave::comm {

struct Faults {
  /// Operation number `operation`, from 0, of `rank`. Each receive of a batch
  /// is an operation, then each send, and so is each wait or block.
  struct At {
    Rank rank = -1;
    std::int64_t operation = 0;
  };

  std::optional<At> kill = {};   ///< the operation throws InjectedFault
  std::optional<At> stall = {};  ///< the operation sleeps until all other ranks
                                 ///< ended, then throws InjectedFault
};

/// What a killed or stalled rank's call throws in that rank itself.
class InjectedFault : public Error {
 public:
  InjectedFault(const std::string& text, bool stalled)
      : Error(text), stalled_(stalled) {}
  bool stalled() const { return stalled_; }

 private:
  bool stalled_;
};

/// Of a batch, the messages before the operation are posted. A rank that is
/// killed leaves the mark of the first failed rank. Faults go around other
/// decorators, whose threads could not bear them.
Transports faulty(Transports ranks, const Faults& faults);

}  // namespace ringweave::comm
