#include "ringweave/comm/exchange_check.h"

#include <algorithm>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ringweave/base/error.h"
#include "ringweave/comm/executor.h"

namespace ringweave::comm {
namespace {

using schedule::BlockId;
using schedule::Pass;
using schedule::Payload;
using schedule::Schedule;

using Int = std::int64_t;

/// Element i of a block part, as keys and values.
Int value_of(const BlockId& block, Int i) {
  return 1'000'000 * (block.owner + 1) + 10'000 * block.strand +
         1'000 * block.part + i;
}
/// What `rank` adds to the gradient of that element.
Int gradient_of(Rank rank, const BlockId& block, Int i) {
  return value_of(block, i) * (rank + 3) + rank;
}

/// Keys and values are integers that tell where they come from. Slots are as
/// large as slot_sizes() says and hold -1 until something arrives.
class IntegerWorker final : public Worker {
 public:
  IntegerWorker(const Schedule& part, Rank rank, const schedule::Demand& demand,
                int strands)
      : part_(part), rank_(rank) {
    for (const Payload payload : {Payload::kv, Payload::kv_grad}) {
      for (const auto& [slot, size] : slot_sizes(part, rank, payload)) {
        memory_[{payload, slot}].assign(size, -1);
      }
    }
    for (int strand = 0; strand < strands; ++strand) {
      std::vector<Int>& own = own_[strand];
      for (int p = 0; p < demand.parts(rank); ++p) {
        const BlockId block{rank, strand, p};
        for (Int i = 0; i < demand.size(block, strands); ++i) {
          own.push_back(value_of(block, i));
        }
      }
      own_gradient_[strand].assign(own.size(), 0);
    }
    for (const schedule::Tile& tile : part.tiles) {
      if (tile.rank == rank) grad_slots_[tile.block] = tile.grad_slot;
    }
    for (const schedule::Transfer& transfer : part.transfers) {
      if (transfer.to == rank && transfer.payload == Payload::kv_grad &&
          transfer.action == schedule::Action::copy) {
        grad_slots_.emplace(transfer.block, transfer.slot);
      }
    }
  }

  /// Takes over what forward retained.
  void retain_from(IntegerWorker& forward) {
    for (const schedule::Retained& kept : part_.retained) {
      if (kept.rank != rank_) continue;
      const auto old = forward.slot(Payload::kv, kept.slot, kept.block);
      std::ranges::copy(old, slot(Payload::kv, kept.slot, kept.block).begin());
    }
  }

  std::span<const std::byte> outgoing(
      const schedule::Message& message) override {
    return std::as_bytes(memory(message.first.payload,
                                message.first.source_slot, message.first.block,
                                message.offset, message.size));
  }
  std::span<std::byte> incoming(const schedule::Message& message) override {
    return std::as_writable_bytes(
        memory(message.first.payload, message.first.slot, message.first.block,
               message.offset, message.size));
  }
  void arrived(const schedule::Message& message) override {
    if (message.first.action != schedule::Action::add) return;
    for (int p = 0; p < message.parts; ++p) {
      BlockId block = message.first.block;
      block.part += p;
      const auto staged = slot(Payload::kv_grad, message.first.slot, block);
      const auto sum = slot(
          Payload::kv_grad,
          block.owner == rank_ ? schedule::kOwn : grad_slots_.at(block), block);
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += staged[i];
    }
  }
  void compute(int step, std::span<const schedule::Tile> tiles) override {
    ensure(step == steps_++, "step {} is out of order", step);
    for (const schedule::Tile& tile : tiles) {
      ensure(tile.step == step, "a tile of step {} in step {}", tile.step,
             step);
      const auto values = slot(Payload::kv, tile.slot, tile.block);
      for (std::size_t i = 0; i < values.size(); ++i) {
        const Int wanted = value_of(tile.block, static_cast<Int>(i));
        ensure(values[i] == wanted, "rank {}, step {}: got {}, want {}", rank_,
               step, values[i], wanted);
      }
      ensure(computed_.insert(tile.block).second, "a part computed twice");
      if (part_.pass == Pass::forward) continue;
      const auto gradient = slot(Payload::kv_grad, tile.grad_slot, tile.block);
      for (std::size_t i = 0; i < gradient.size(); ++i) {
        const Int own = gradient_of(rank_, tile.block, static_cast<Int>(i));
        gradient[i] =
            tile.grad_slot == schedule::kOwn ? gradient[i] + own : own;
      }
    }
  }

  const std::set<BlockId>& computed() const { return computed_; }
  const std::map<int, std::vector<Int>>& own_gradient() const {
    return own_gradient_;
  }

 private:
  std::span<Int> slot(Payload payload, int number, const BlockId& block) {
    return memory(payload, number, block, part_offset(part_, block),
                  block_size(part_, block));
  }
  std::span<Int> memory(Payload payload, int number, const BlockId& block,
                        Int offset, Int size) {
    const bool own = number == schedule::kOwn;
    ensure(!own || block.owner == rank_, "another rank's own block");
    std::vector<Int>& all =
        !own ? memory_.at({payload, number})
             : (payload == Payload::kv ? own_ : own_gradient_).at(block.strand);
    ensure(offset + size <= static_cast<Int>(all.size()), "slot too small");
    return std::span(all).subspan(offset, size);
  }

  const Schedule& part_;
  const Rank rank_;
  int steps_ = 0;
  std::map<std::pair<Payload, int>, std::vector<Int>> memory_;
  std::map<int, std::vector<Int>> own_, own_gradient_;  ///< by strand
  std::map<BlockId, int> grad_slots_;
  std::set<BlockId> computed_;
};

std::set<BlockId> needed_by(Rank rank, const schedule::Demand& demand,
                            int strands) {
  std::set<BlockId> needed;
  for (Rank owner = 0; owner < demand.ranks(); ++owner) {
    for (int strand = 0; strand < strands; ++strand) {
      for (int p = 0; p < demand.parts(owner); ++p) {
        const BlockId block{owner, strand, p};
        if (demand.needs(rank, block, strands)) needed.insert(block);
      }
    }
  }
  return needed;
}

void check_gradient(const IntegerWorker& worker, Rank rank,
                    const schedule::Demand& demand, int strands) {
  for (int strand = 0; strand < strands; ++strand) {
    std::vector<Int> wanted;
    for (int p = 0; p < demand.parts(rank); ++p) {
      const BlockId block{rank, strand, p};
      for (Int i = 0; i < demand.size(block, strands); ++i) {
        Int sum = 0;
        for (Rank user = 0; user < demand.ranks(); ++user) {
          if (demand.needs(user, block, strands)) {
            sum += gradient_of(user, block, i);
          }
        }
        wanted.push_back(sum);
      }
    }
    ensure(worker.own_gradient().at(strand) == wanted,
           "rank {} has another gradient of strand {}", rank, strand);
  }
}

/// Bytes sent on every link, measured, against what the schedule says.
void check_traffic(const Traffic& traffic, Rank rank, const Schedule& part) {
  std::map<Rank, Int> wanted, got;
  for (const auto& [link, payloads] : link_traffic(part)) {
    if (link.first != rank) continue;
    for (const auto& [payload, units] : payloads) {
      wanted[link.second] += units * static_cast<Int>(sizeof(Int));
    }
  }
  for (const auto& [to, sent] : traffic.sent) got[to] = sent.bytes;
  ensure(got == wanted, "rank {} sent other bytes than scheduled", rank);
}

}  // namespace

void check_exchange(const schedule::Strategy& strategy,
                    const schedule::Demand& demand,
                    Communicator& communicator) {
  const Rank rank = communicator.rank();
  const int strands = strand_count(strategy, demand.ranks());
  const auto run = [&](const Schedule& part, IntegerWorker& worker) {
    communicator.traffic() = {};
    execute(schedule::make_program(part, rank), worker, communicator,
            std::string("exchange ") + name(part.pass));
    ensure(worker.computed() == needed_by(rank, demand, strands),
           "rank {} did not compute exactly what it needs", rank);
    check_traffic(communicator.traffic(), rank, part);
  };
  const Schedule forward = rank_part(strategy, demand, Pass::forward, rank);
  IntegerWorker forward_worker(forward, rank, demand, strands);
  run(forward, forward_worker);
  const Schedule backward = rank_part(strategy, demand, Pass::backward, rank);
  IntegerWorker backward_worker(backward, rank, demand, strands);
  backward_worker.retain_from(forward_worker);
  run(backward, backward_worker);
  check_gradient(backward_worker, rank, demand, strands);
}

}  // namespace ringweave::comm
