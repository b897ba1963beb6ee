#include "ringweave/comm/executor.h"

#include <memory>
#include <vector>

#include "ringweave/base/error.h"

namespace ringweave::comm {
namespace {

void run_steps(const schedule::Program& program, Worker& worker,
               Communicator& communicator, const std::string& operation) {
  std::vector<std::unique_ptr<Work>> works(program.messages.size());
  const int steps = static_cast<int>(program.steps.size()) - 1;
  for (int t = 0; t <= steps; ++t) {
    const schedule::Program::Step& step = program.steps[t];
    for (const int i : step.waits) {
      const schedule::Message& message = program.messages[i];
      communicator.wait(*works[i], operation, t);
      works[i].reset();
      if (message.first.to == program.rank) worker.arrived(message);
    }
    for (const int i : step.receives) {
      const schedule::Message& message = program.messages[i];
      works[i] =
          communicator.receive(message.first.from, worker.incoming(message));
    }
    for (const int i : step.sends) {
      const schedule::Message& message = program.messages[i];
      works[i] = communicator.send(message.first.to, worker.outgoing(message));
    }
    if (t < steps) worker.compute(t, step.tiles);
  }
}

}  // namespace

void execute(const schedule::Program& program, Worker& worker,
             Communicator& communicator, const std::string& operation) {
  ensure(program.rank == communicator.rank(),
         "rank {} runs the program of rank {}", communicator.rank(),
         program.rank);
  try {
    run_steps(program, worker, communicator, operation);
  } catch (const CommError&) {
    throw;
  } catch (...) {  // the worker failed: the peers can't know it from a wait
    communicator.transport().mark_failed(communicator.rank());
    throw;
  }
}

}  // namespace ringweave::comm
