#include "ringweave/comm/executor.h"

#include <algorithm>
#include <memory>
#include <tuple>

#include "ringweave/base/error.h"

namespace ringweave::comm {
namespace {

using plan::Transfer;

/// What the transfers of one message agree in. Messages are posted in this
/// order, which is the same on both sides.
auto message_key(const Transfer& transfer) {
  return std::tuple(transfer.post_step, transfer.from, transfer.to,
                    transfer.block.owner, transfer.block.strand,
                    transfer.payload, transfer.action, transfer.wait_step,
                    transfer.source_slot, transfer.slot);
}

std::vector<Message> coalesce(const plan::Schedule& part, Rank rank) {
  std::vector<Transfer> transfers;
  for (const Transfer& transfer : part.transfers) {
    if (transfer.from != rank && transfer.to != rank) continue;
    ensure(transfer.from != transfer.to && transfer.post_step >= 0 &&
               transfer.post_step < transfer.wait_step &&
               transfer.wait_step <= part.steps,
           "a transfer from rank {} to rank {} from step {} to step {} of {}",
           transfer.from, transfer.to, transfer.post_step, transfer.wait_step,
           part.steps);
    transfers.push_back(transfer);
  }
  std::ranges::sort(transfers, {}, [](const Transfer& transfer) {
    return std::tuple_cat(message_key(transfer),
                          std::tuple(transfer.block.part));
  });
  std::vector<Message> messages;
  for (const Transfer& transfer : transfers) {
    const std::int64_t size = plan::block_size(part, transfer.block);
    ensure(size > 0, "a transfer of part {} of strand {} of rank {}: no size",
           transfer.block.part, transfer.block.strand, transfer.block.owner);
    if (!messages.empty()) {
      Message& last = messages.back();
      if (message_key(last.first) == message_key(transfer) &&
          last.first.block.part + last.parts == transfer.block.part) {
        ++last.parts;
        last.size += size;
        continue;
      }
    }
    messages.push_back({.first = transfer,
                        .offset = plan::part_offset(part, transfer.block),
                        .size = size});
  }
  return messages;
}

}  // namespace

Program make_program(const plan::Schedule& part, Rank rank) {
  Program program{.rank = rank, .messages = coalesce(part, rank), .steps = {}};
  program.steps.resize(part.steps + 1);
  for (int i = 0; i < static_cast<int>(program.messages.size()); ++i) {
    const Transfer& transfer = program.messages[i].first;
    Program::Step& post = program.steps[transfer.post_step];
    (transfer.to == rank ? post.receives : post.sends).push_back(i);
    program.steps[transfer.wait_step].waits.push_back(i);
  }
  for (Program::Step& step : program.steps) {
    // Arrivals come first: their work is done while the sends drain.
    std::ranges::sort(step.waits, {}, [&](int i) {
      const Transfer& transfer = program.messages[i].first;
      return std::tuple(transfer.from == rank, transfer.from, transfer.block,
                        i);
    });
  }
  for (const plan::Tile& tile : part.tiles) {
    if (tile.rank != rank) continue;
    ensure(tile.step >= 0 && tile.step < part.steps, "a tile in step {} of {}",
           tile.step, part.steps);
    program.steps[tile.step].tiles.push_back(tile);
  }
  return program;
}

namespace {

void run_steps(const Program& program, Worker& worker,
               Communicator& communicator, const std::string& operation) {
  std::vector<std::unique_ptr<Work>> works(program.messages.size());
  const int steps = static_cast<int>(program.steps.size()) - 1;
  for (int t = 0; t <= steps; ++t) {
    const Program::Step& step = program.steps[t];
    for (const int i : step.waits) {
      const Message& message = program.messages[i];
      communicator.wait(*works[i], operation, t);
      works[i].reset();
      if (message.first.to == program.rank) worker.arrived(message);
    }
    for (const int i : step.receives) {
      const Message& message = program.messages[i];
      works[i] =
          communicator.receive(message.first.from, worker.incoming(message));
    }
    for (const int i : step.sends) {
      const Message& message = program.messages[i];
      works[i] = communicator.send(message.first.to, worker.outgoing(message));
    }
    if (t < steps) worker.compute(t, step.tiles);
  }
}

}  // namespace

void execute(const Program& program, Worker& worker, Communicator& communicator,
             const std::string& operation) {
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
