// Runs one rank's part of a schedule over a communicator.
//
// The executor knows steps, messages and waits. What the bytes are, and what is
// computed, is the Worker's business: attention/ and linear_attention/ have one
// each; tests have theirs without torch.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "ringweave/comm/communicator.h"
#include "ringweave/plan/schedule.h"

namespace ringweave::comm {

/// One message: consecutive parts of one block strand, sent together.
struct Message {
  plan::Transfer first;     ///< the transfer of its first part
  int parts = 1;            ///< parts first.block.part … + parts - 1
  std::int64_t offset = 0;  ///< of its first part in the packed block, in units
  std::int64_t size = 0;    ///< in units
};

/// One rank's steps, ready to run. Built once per (strategy, layout, mask) and
/// run for every layer.
struct Program {
  struct Step {
    std::vector<int> waits;     ///< indices into messages
    std::vector<int> receives;  ///< posted first
    std::vector<int> sends;
    std::vector<plan::Tile> tiles;
  };
  Rank rank = 0;
  std::vector<Message> messages;
  std::vector<Step> steps;  ///< schedule.steps + 1; the last one only waits
};

/// Coalesces a rank's transfers into messages: those that agree in all but the
/// part, with consecutive part numbers. Sender and receiver do so alike.
Program make_program(const plan::Schedule& part, Rank rank);

class Worker {
 public:
  virtual ~Worker() = default;
  /// The memory of an outgoing message, and of an incoming one; asked when it
  /// is posted.
  virtual std::span<const std::byte> outgoing(const Message& message) = 0;
  virtual std::span<std::byte> incoming(const Message& message) = 0;
  /// An incoming message is there. Called in order of (wait step, from, block);
  /// an action of add is carried out here.
  virtual void arrived(const Message& message) = 0;
  /// Computes a step's tiles; transfers are under way meanwhile. Called for
  /// every step, with no tiles as well.
  virtual void compute(int step, std::span<const plan::Tile> tiles) = 0;
};

/// Every member of the communicator must call it with its own part of one
/// schedule. Throws CommError at a time-out; `operation` names the pass in it.
void execute(const Program& program, Worker& worker, Communicator& communicator,
             const std::string& operation);

}  // namespace ringweave::comm
