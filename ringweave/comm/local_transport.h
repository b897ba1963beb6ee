// Messages between threads of one process, each a rank (local_ranks.h).
//
// Messages are copied from the sender's buffer to the receiver's by whoever of
// the two comes second. A send is complete when its receive was posted and the
// bytes were copied. When a rank fails, all waits of the others fail at once.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

#include "ringweave/base/error.h"
#include "ringweave/comm/transport.h"
#include "ringweave/topology/topology.h"

namespace ringweave::comm {

/// What tests do to the messages and ranks of a LocalWorld.
struct FaultInjection {
  /// The call number `operation`, from 0, of `rank` to send, receive or wait.
  struct At {
    Rank rank = -1;
    std::int64_t operation = 0;
  };

  /// Of the delays: for a seed, each ordered pair of ranks has its own fixed
  /// sequence, whatever the threads do.
  std::uint64_t seed = 0;
  /// Each message is delivered after a random time of up to this once both
  /// sides have posted it: messages of different pairs overtake each other,
  /// those of one pair never do. Receive buffers are filled with 0xff (NaN)
  /// until then, and sources are read only then, so that touching a buffer too
  /// early shows.
  std::chrono::microseconds max_delay{0};
  /// Messages take the time that these links need for them, by the world's own
  /// clock (link_model.h, Transport::seconds); time-outs stay real time. Not
  /// together with delays.
  std::optional<topology::Topology> links = {};
  std::optional<At> kill = {};   ///< the call throws InjectedFault
  std::optional<At> stall = {};  ///< the call sleeps until all other ranks
                                 ///< ended, then throws InjectedFault
};

/// What a killed or stalled rank's call throws in that rank itself.
class InjectedFault : public Error {
 public:
  using Error::Error;
};

/// Each rank is a thread, and each pair of ranks has two mailboxes.
inline constexpr int kMaxLocalRanks = 256;

/// The mailboxes that the ranks share. Copies share them too.
class LocalWorld {
 public:
  /// Throws InvalidArgument unless ranks are 1 … kMaxLocalRanks.
  explicit LocalWorld(int ranks, FaultInjection faults = {});

  /// To be used by one thread at a time; keeps the mailboxes alive.
  /// A Work that is destroyed before it was waited for breaks its ordered pair
  /// of ranks: the peer's matching and later messages fail. Once it is
  /// destroyed nobody touches its buffer any more.
  std::shared_ptr<Transport> transport(Rank rank) const;

  /// Says that `rank` will send and receive nothing more: waits for it fail.
  /// To be called by who runs the ranks.
  void ended(Rank rank) const;

  struct State;

 private:
  std::shared_ptr<State> state_;
};

}  // namespace ringweave::comm
