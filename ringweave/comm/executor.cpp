#include "ringweave/comm/executor.h"

#include <deque>
#include <utility>
#include <vector>

#include "ringweave/base/error.h"
#include "ringweave/device/accelerator.h"

namespace ringweave::comm {
namespace {

using schedule::Program;

/// Steps that are put on a stream before the host waits for the first of them:
/// enough that the device never runs dry.
constexpr int kStepsAhead = 4;

class Run {
 public:
  Run(const Program& program, const ProgramMemory& memory, Worker& worker,
      Communicator& communicator, const std::string& operation,
      const Stream& stream)
      : program_(program),
        memory_(memory),
        worker_(worker),
        communicator_(communicator),
        operation_(operation),
        stream_(stream),
        works_(program.messages.size()) {}

  void steps() {
    const int last = static_cast<int>(program_.steps.size()) - 1;
    for (int t = 0; t <= last; ++t) {
      const Program::Step& step = program_.steps[t];
      block(step.arrivals, t);
      if (!step.arrivals.empty()) worker_.arrived(t);
      block(step.sent, t);
      post(step);
      // What was passed on is named in the post.
      release(step.arrivals);
      release(step.sent);
      if (t < last) worker_.compute(t);
      bound_host();
    }
  }

 private:
  void block(const std::vector<int>& messages, int step) {
    for (const int i : messages) {
      communicator_.block(*works_[i], stream_, operation_, step);
    }
  }

  /// Waits until the device is at most kStepsAhead steps behind the host.
  void bound_host() {
    if (stream_.device.is_host()) return;
    ends_.push_back(device::mark(stream_));
    if (std::ssize(ends_) <= kStepsAhead) return;
    ends_.front()->wait();
    ends_.pop_front();
  }

  void release(const std::vector<int>& messages) {
    for (const int i : messages) works_[i].reset();
  }

  /// Receives first, then sends.
  void post(const Program::Step& step) {
    receives_.clear();
    sends_.clear();
    for (const int i : step.receives) {
      receives_.push_back({program_.messages[i].peer, buffer(i)});
    }
    for (const int i : step.sends) {
      const int forwards = program_.messages[i].forwards;
      sends_.push_back({program_.messages[i].peer, buffer(i),
                        forwards < 0 ? nullptr : works_[forwards].get()});
    }
    Works posted = communicator_.post({receives_, sends_}, stream_);
    auto next = posted.begin();
    for (const int i : step.receives) works_[i] = std::move(*next++);
    for (const int i : step.sends) works_[i] = std::move(*next++);
  }

  Buffer buffer(int message) const {
    const Program::Message& it = program_.messages[message];
    return memory_[it.payload].at(it.place);
  }

  const Program& program_;
  const ProgramMemory& memory_;
  Worker& worker_;
  Communicator& communicator_;
  const std::string& operation_;
  const Stream& stream_;
  Works works_;  // of each message, while it is under way
  std::deque<device::SharedMark> ends_;  // of the last steps, on a device
  std::vector<Receive> receives_;
  std::vector<Send> sends_;
};

}  // namespace

Buffer PayloadMemory::at(const schedule::Place& place) const {
  const auto slice = [&](const Buffer& whole) {
    return whole.slice(static_cast<std::size_t>(place.begin) * unit_bytes,
                       static_cast<std::size_t>(place.size) * unit_bytes);
  };
  switch (place.memory) {
    case schedule::Memory::packed:
      return slice(packed);
    case schedule::Memory::scratch:
      return slice(scratch);
    case schedule::Memory::kept:
      return slice(kept);
    case schedule::Memory::input:
      break;
  }
  throw InternalError("bug in ringweave: a message from the input");
}

void execute(const Program& program, const ProgramMemory& memory,
             Worker& worker, Communicator& communicator,
             const std::string& operation, const Stream& stream) {
  ensure(program.rank == communicator.rank(),
         "rank {} runs the program of rank {}", communicator.rank(),
         program.rank);
  try {
    Run(program, memory, worker, communicator, operation, stream).steps();
  } catch (const CommError&) {
    throw;
  } catch (...) {  // the worker failed: the peers can't know it from a wait
    communicator.transport().mark_failed(communicator.rank());
    throw;
  }
}

}  // namespace ringweave::comm
