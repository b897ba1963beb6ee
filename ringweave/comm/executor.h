// Runs one rank's program over a communicator.
//
// The executor knows steps, messages and where in memory they lie. What is
// computed is the Worker's business: attention/ and linear_attention/ have
// theirs; tests have theirs without torch.
#pragma once

#include <array>
#include <string>

#include "ringweave/comm/communicator.h"
#include "ringweave/schedule/program/program.h"

namespace ringweave::comm {

/// The memories of a payload that messages of a program use. What it does not
/// use may be empty.
struct PayloadMemory {
  std::size_t unit_bytes = 0;
  Buffer packed, scratch, kept;

  /// The bytes of a place. Throws InternalError if it lies outside.
  Buffer at(const schedule::Place& place) const;
};

/// Those of all payloads, by payload.
class ProgramMemory {
 public:
  PayloadMemory& operator[](schedule::Payload payload) {
    return payloads_[static_cast<std::size_t>(payload)];
  }
  const PayloadMemory& operator[](schedule::Payload payload) const {
    return payloads_[static_cast<std::size_t>(payload)];
  }

 private:
  std::array<PayloadMemory, schedule::kPayloads> payloads_;
};

class Worker {
 public:
  virtual ~Worker() = default;
  /// All arrivals of a step are there; called in steps that have some. The
  /// step's sums are added here.
  virtual void arrived(int step) = 0;
  /// Computes a step; transfers are under way meanwhile. Called for every step
  /// but the last one, which only waits.
  virtual void compute(int step) = 0;
};

/// Every member of the communicator must call it with its own program of one
/// schedule. Throws CommError at a time-out; `operation` names the pass in it.
/// `stream` is the one that the worker's memory and computations are on.
void execute(const schedule::Program& program, const ProgramMemory& memory,
             Worker& worker, Communicator& communicator,
             const std::string& operation, const Stream& stream = {});

}  // namespace ringweave::comm
