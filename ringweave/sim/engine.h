// Plays scripts of ranks on a platform, in SimGrid.
//
// SimGrid runs one actor per rank, brings sends and receives together, and
// tells how fast messages move that share links.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "ringweave/base/range.h"
#include "ringweave/sim/timeline.h"

namespace ringweave::sim {

/// What the ranks do. Indices are into `messages` and `tile_seconds`. Each
/// message stands once among its sender's sends, once among its receiver's
/// receives, and in a later step among the waits of both.
struct Script {
  struct Message {
    Rank from = 0;
    Rank to = 0;
    std::int64_t bytes = 0;  ///< at least 1
    const std::vector<int>* route = nullptr;
  };
  struct Step {
    std::vector<int> waits;
    std::vector<int> receives;
    std::vector<int> sends;
    std::vector<int> tiles;
  };
  std::vector<Message> messages;
  std::vector<double> tile_seconds;
  std::vector<std::vector<Step>> steps;  ///< [rank][step]
  double message_overhead_seconds = 0;
};

/// Capacities that messages share. Several links may have one.
struct Platform {
  struct Failure {
    int capacity = 0;
    double seconds = 0;
  };
  std::vector<double> bytes_per_second;  ///< by capacity
  std::vector<int> capacity;             ///< by link
  std::vector<double> latency_seconds;   ///< by link
  std::vector<Failure> failures;
};

/// When things happened, with kNever for what did not.
struct Record {
  struct Message {
    double send_seconds = kNever;     ///< posted by the sender
    double receive_seconds = kNever;  ///< posted by the receiver
    double end_seconds = kNever;
  };
  struct Tile {
    double start_seconds = kNever;
    double end_seconds = kNever;
  };
  std::vector<Message> messages;
  std::vector<Tile> tiles;
  std::vector<WaitTimes> waits;  ///< in order of their ends; none is empty
  std::vector<double> ends;      ///< by rank
  std::vector<int> stuck;        ///< by rank: message waited for; -1: none
};

/// One simulation at a time: calls from several threads take turns. `poll`,
/// unless empty, is called often; play() throws what it throws.
Record play(const Script& script, const Platform& platform,
            const std::function<void()>& poll);

}  // namespace ringweave::sim
