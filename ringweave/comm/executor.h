// Runs one rank's part of a schedule over a communicator.
//
// The executor knows steps, messages and waits. What the bytes are, and what is
// computed, is the Worker's business: attention/ and linear_attention/ have one
// each; tests have theirs without torch.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "ringweave/comm/communicator.h"
#include "ringweave/schedule/program/program.h"

namespace ringweave::comm {

class Worker {
 public:
  virtual ~Worker() = default;
  /// The memory of an outgoing message, and of an incoming one; asked when it
  /// is posted.
  virtual std::span<const std::byte> outgoing(
      const schedule::Message& message) = 0;
  virtual std::span<std::byte> incoming(const schedule::Message& message) = 0;
  /// An incoming message is there. Called in order of (wait step, copies before
  /// additions, from, block); an action of add is carried out here.
  virtual void arrived(const schedule::Message& message) = 0;
  /// Computes a step's tiles; transfers are under way meanwhile. Called for
  /// every step, with no tiles as well.
  virtual void compute(int step, std::span<const schedule::Tile> tiles) = 0;
};

/// Every member of the communicator must call it with its own part of one
/// schedule. Throws CommError at a time-out; `operation` names the pass in it.
void execute(const schedule::Program& program, Worker& worker,
             Communicator& communicator, const std::string& operation);

}  // namespace ringweave::comm
