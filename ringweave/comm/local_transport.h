// Messages between threads of one process, each a rank (local_ranks.h).
//
// The side that posts second copies the bytes, in its post. A send is complete
// when its receive was posted and the bytes were copied. When a rank fails, all
// waits of the others fail at once.
#pragma once

#include <memory>

#include "ringweave/comm/transport.h"

namespace ringweave::comm {

/// Each rank is a thread, and each pair of ranks has two mailboxes.
inline constexpr int kMaxLocalRanks = 256;

/// The mailboxes that the ranks share. Copies share them too.
class LocalWorld {
 public:
  /// Throws InvalidArgument unless ranks are 1 … kMaxLocalRanks.
  explicit LocalWorld(int ranks);

  /// Keeps the mailboxes alive. One thread at a time may wait; posts may come
  /// from others meanwhile. A Work that is destroyed before it was waited for
  /// breaks its ordered pair of ranks: the peer's matching and later messages
  /// fail. Once it is destroyed nobody touches its buffer any more.
  std::shared_ptr<Transport> transport(Rank rank) const;
  Transports transports() const;

  struct State;

 private:
  std::shared_ptr<State> state_;
};

}  // namespace ringweave::comm
