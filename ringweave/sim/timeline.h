// What happened in a simulated pass, and when. Times are in seconds since its
// start.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "ringweave/schedule/schedule.h"
#include "ringweave/topology/topology.h"

namespace ringweave::sim {

/// The time of what does not happen, such as the end of a message on a link
/// that failed.
inline constexpr double kNever = std::numeric_limits<double>::infinity();

/// One message (schedule::Message): consecutive parts of one block strand.
struct MessageTimes {
  schedule::Transfer first;  ///< the transfer of its first part
  int parts = 1;
  std::int64_t units = 0;  ///< such as tokens (schedule::Block)
  std::int64_t bytes = 0;
  double post_seconds = kNever;   ///< by the sender
  double start_seconds = kNever;  ///< when both sides had posted it
  double end_seconds = kNever;
};

struct TileTimes {
  schedule::Tile tile;
  std::int64_t units = 0;  ///< of its block part: tokens
  double start_seconds = kNever;
  double end_seconds = kNever;
};

/// A time in which a rank did nothing but wait for messages of a step.
struct WaitTimes {
  Rank rank = 0;
  int step = 0;
  double start_seconds = 0;
  double end_seconds = kNever;
};

struct RankTimes {
  double compute_seconds = 0;
  double overhead_seconds = 0;  ///< of posting messages
  double waiting_seconds = 0;   ///< exposed communication
  double end_seconds = kNever;
};

/// Counts messages that arrived.
struct LinkUse {
  int link = 0;  ///< index into Topology::links()
  std::int64_t messages = 0;
  std::int64_t bytes = 0;
  double busy_seconds = 0;  ///< with at least one message between its ends
  double utilisation = 0;   ///< bytes / (rate · duration of the pass)
};

/// What a link carries from `seconds` on, until its next change.
struct RateChange {
  double seconds = 0;
  double bytes_per_second = 0;
};

struct LinkClassUse {
  std::string link_class;
  int links = 0;
  std::int64_t bytes = 0;          ///< over all its links
  std::int64_t busiest_bytes = 0;  ///< over one of them
  double utilisation = 0;          ///< mean over its links
  double busiest_utilisation = 0;
};

/// A rank that waits for ever.
struct Stuck {
  Rank rank = 0;
  int step = 0;     ///< in which it waits
  int message = 0;  ///< the first one that it waits for, in Timeline::messages
  Rank peer = 0;    ///< the other end of that message
  /// Such as "rank 1 waits in step 2 for kv block (owner 0, strand 0) from rank
  /// 0: a link on its way failed".
  std::string text;
};

struct Timeline {
  schedule::Pass pass = schedule::Pass::forward;
  double seconds = 0;  ///< until the last rank is done; kNever if one is stuck
  std::vector<RankTimes> ranks;        ///< by rank
  std::vector<MessageTimes> messages;  ///< by sender, in order of its posts
  std::vector<TileTimes> tiles;        ///< in order of ranks, then of computing
  std::vector<WaitTimes> waits;        ///< in order of ranks; those that ended
  std::vector<LinkUse> links;          ///< by link; unused ones too
  /// By link, from 0 on; empty unless SimulationOptions::link_rates.
  std::vector<std::vector<RateChange>> rates;
  std::vector<Stuck> stuck;  ///< by rank

  bool complete() const { return stuck.empty(); }
  /// Mean over ranks of what they waited.
  double exposed_seconds() const;
};

/// How the messages that arrived used each link. `routes` holds the links that
/// each message took; `rates` the bytes per second of each link.
std::vector<LinkUse> link_use(
    const std::vector<MessageTimes>& messages,
    const std::vector<const std::vector<int>*>& routes,
    const std::vector<double>& rates, double seconds);

/// The same by link class, in order of their names.
std::vector<LinkClassUse> link_class_use(const std::vector<LinkUse>& links,
                                         const topology::Topology& topology);

}  // namespace ringweave::sim
