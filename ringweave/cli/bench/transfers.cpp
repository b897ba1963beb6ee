#include "ringweave/cli/bench/transfers.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>

#include "ringweave/cli/interrupt.h"

namespace ringweave::cli {
namespace {

using schedule::Payload;
using schedule::Program;

/// The largest sleep until somebody may interrupt.
constexpr std::chrono::milliseconds kNap{50};

/// Of one payload's memories, in units.
struct Sizes {
  std::int64_t packed = 0;
  std::int64_t kept = 0;
  std::int64_t scratch = 0;
};

Sizes sizes_of(const Exchanged::Part& part, Payload payload) {
  const auto scratch = part.program.scratch_size.find(payload);
  return {.packed = part.program.packed_size,
          .kept = part.kept_size,
          .scratch =
              scratch == part.program.scratch_size.end() ? 0 : scratch->second};
}

}  // namespace

device::Buffer zeros(std::int64_t bytes) {
  device::Buffer buffer =
      device::allocate_buffer(static_cast<std::size_t>(bytes));
  std::fill_n(buffer.data, buffer.size, std::byte{0});
  return buffer;
}

void pass_time(double seconds) {
  const auto end =
      comm::Clock::now() + std::chrono::duration_cast<comm::Clock::duration>(
                               std::chrono::duration<double>(seconds));
  for (auto now = comm::Clock::now(); now < end; now = comm::Clock::now()) {
    std::this_thread::sleep_until(std::min(end, now + kNap));
    check_interrupted();
  }
}

comm::ProgramMemory zeroed_memory(const Exchanged::Part& part,
                                  const schedule::UnitBytes& units) {
  comm::ProgramMemory memory;
  for (const auto& [payload, unit] : units) {
    const Sizes sizes = sizes_of(part, payload);
    memory[payload] = {.unit_bytes = static_cast<std::size_t>(unit),
                       .packed = zeros(unit * sizes.packed),
                       .scratch = zeros(unit * sizes.scratch),
                       .kept = zeros(unit * sizes.kept)};
  }
  return memory;
}

double memory_bytes(const Exchanged& exchanged) {
  const Exchanged::Part part = exchanged.part(0);
  double bytes = 0;
  for (const auto& [payload, unit] : exchanged.unit_bytes()) {
    const Sizes sizes = sizes_of(part, payload);
    bytes += static_cast<double>(unit) *
             static_cast<double>(sizes.packed + sizes.kept + sizes.scratch);
  }
  return bytes;
}

Transfers::Transfers(const Exchanged::Part& part,
                     const schedule::UnitBytes& units)
    : part_(part), memory_(zeroed_memory(part, units)) {}

void Transfers::run(comm::Communicator& communicator,
                    const std::string& operation) {
  pass_time(part_.before_seconds);
  comm::execute(part_.program, memory_, *this, communicator, operation);
  pass_time(part_.after_seconds);
}

void Transfers::arrived(int step) {
  for (const Program::Sum& sum : part_.program.steps[step].sums) {
    const device::Buffer from = memory_[Payload::kv_grad].at(sum.from);
    const device::Buffer to = memory_[Payload::kv_grad].at(sum.to);
    const auto* more = reinterpret_cast<const float*>(from.data);
    auto* sums = reinterpret_cast<float*>(to.data);
    for (std::size_t i = 0; i < to.size / sizeof(float); ++i) {
      sums[i] += more[i];
    }
  }
}

void Transfers::compute(int step) {
  if (!part_.compute_seconds.empty()) pass_time(part_.compute_seconds[step]);
}

Bare::Bare(const Program& program, const schedule::UnitBytes& units) {
  const auto bytes = [&](const Program::Message& message) {
    return message.place.size * units.at(message.payload);
  };
  std::int64_t sum = 0;
  for (const Program::Message& message : program.messages) {
    sum += bytes(message);
  }
  const device::Buffer all = zeros(sum);
  std::size_t at = 0;
  const auto memory_of = [&](const Program::Message& message) {
    const auto size = static_cast<std::size_t>(bytes(message));
    at += size;
    return all.slice(at - size, size);
  };
  // In the order of the steps, by which both ends match.
  for (const Program::Step& step : program.steps) {
    for (const int i : step.receives) {
      const Program::Message& message = program.messages[i];
      receives_.push_back({message.peer, memory_of(message)});
    }
    for (const int i : step.sends) {
      const Program::Message& message = program.messages[i];
      sends_.push_back({message.peer, memory_of(message)});
    }
  }
}

void Bare::run(comm::Communicator& communicator) const {
  const comm::Works works = communicator.post({receives_, sends_});
  for (const auto& work : works) communicator.wait(*work, "bare exchange");
}

}  // namespace ringweave::cli
