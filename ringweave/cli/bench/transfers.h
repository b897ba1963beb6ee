// The messages of an Exchanged on one rank: by its schedule, or all at once.
#pragma once

#include <cstdint>
#include <vector>

#include "ringweave/cli/bench/exchanged.h"
#include "ringweave/comm/communicator.h"
#include "ringweave/comm/executor.h"

namespace ringweave::cli {

device::Buffer zeros(std::int64_t bytes);

/// In place of computing. Throws as check_interrupted().
void pass_time(double seconds);

/// What the program uses, all zeros, so that sums stay 0.
comm::ProgramMemory zeroed_memory(const Exchanged::Part& part,
                                  const schedule::UnitBytes& units);
/// Bytes of it, of rank 0.
double memory_bytes(const Exchanged& exchanged);

/// By the schedule. Adds gradients that arrive, and only takes the time of what
/// is computed.
class Transfers final : public comm::Worker {
 public:
  /// `part` must outlive it.
  Transfers(const Exchanged::Part& part, const schedule::UnitBytes& units);

  /// With what is computed before and after it. `operation`: as of execute().
  void run(comm::Communicator& communicator, const std::string& operation);

  void arrived(int step) override;
  void compute(int step) override;

 private:
  const Exchanged::Part& part_;
  comm::ProgramMemory memory_;
};

/// All at once: no message waits for another, and none shares memory with
/// another.
class Bare {
 public:
  Bare(const schedule::Program& program, const schedule::UnitBytes& units);

  void run(comm::Communicator& communicator) const;

 private:
  std::vector<comm::Receive> receives_;
  std::vector<comm::Send> sends_;
};

}  // namespace ringweave::cli
