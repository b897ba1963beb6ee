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
using schedule::Program;
using schedule::Schedule;

using Int = std::int64_t;

/// Element i of a block part, as keys and values.
Int value_of(const BlockId& block, Int i) {
  return 1'000'000 * (block.owner + 1) + 10'000 * block.strand +
         1'000 * block.part + i;
}
/// What `rank` adds to the gradient of an element.
Int gradient_of(Rank rank, Int value) { return value * (rank + 3) + rank; }

/// The rank's own keys and values, in the order of its tokens.
std::vector<Int> own_values(const schedule::AttentionDemand& demand, Rank rank,
                            int strands) {
  const schedule::Layout& layout = demand.kv_layout();
  std::vector<Int> values(layout.shard_tokens(rank));
  for (int strand = 0; strand < strands; ++strand) {
    for (int part = 0; part < layout.parts(rank); ++part) {
      const schedule::Run local =
          layout.block_part(rank, strand, strands, part).local;
      for (Int i = 0; i < local.length; ++i) {
        values[local.at(i)] = value_of({rank, strand, part}, i);
      }
    }
  }
  return values;
}

/// Runs a program on integers that tell where they come from. Memory is as
/// large as the program says and holds -1 until something arrives.
class IntegerWorker final : public Worker {
 public:
  /// `part`: the schedule that the program was compiled from. `kept`: of
  /// backward, what forward left.
  IntegerWorker(const Program& program, const Schedule& part,
                std::vector<Int> values, std::vector<Int> kept)
      : program_(program),
        part_(part),
        input_(std::move(values)),
        input_gradient_(input_.size(), 0),
        kept_(std::move(kept)) {
    if (program.pass == Pass::forward) kept_.assign(program.kept_size, -1);
    for (const auto& [payload, size] : program.scratch_size) {
      scratch_[payload].assign(size, -1);
    }
    packed_.assign(program.packed_size, -1);
    packed_gradient_.assign(program.packed_size,
                            program.packed_gradients_start_at_zero ? 0 : -1);
    for (const Program::Packed& run : program.packing) {
      for (Int i = 0; i < run.local.length; ++i) {
        packed_[run.begin + i] = input_[run.local.at(i)];
      }
    }
  }

  ProgramMemory memory() {
    ProgramMemory memory;
    for (const Payload payload : {Payload::kv, Payload::kv_grad}) {
      memory[payload].unit_bytes = sizeof(Int);
      memory[payload].scratch = borrowed(std::span(scratch_[payload]));
    }
    memory[Payload::kv].packed = borrowed(std::span(packed_));
    memory[Payload::kv].kept = borrowed(std::span(kept_));
    return memory;
  }

  void arrived(int step) override {
    for (const Program::Sum& sum : program_.steps[step].sums) {
      const std::span<Int> from = gradients(sum.from);
      const std::span<Int> to = gradients(sum.to);
      for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
    }
  }

  void compute(int step) override {
    ensure(step == steps_++, "step {} is out of order", step);
    std::vector<Int> seen;
    for (const Program::Region& region : program_.steps[step].regions) {
      const std::vector<Int> keys = keys_of(region);
      seen.insert(seen.end(), keys.begin(), keys.end());
      if (program_.pass == Pass::backward) put_gradients(region, keys);
    }
    std::vector<Int> wanted;
    for (const schedule::Tile& tile : part_.tiles) {
      if (tile.rank != program_.rank || tile.step != step) continue;
      ensure(computed_.insert(tile.block).second, "a part computed twice");
      for (Int i = 0; i < block_size(part_, tile.block); ++i) {
        wanted.push_back(value_of(tile.block, i));
      }
    }
    std::ranges::sort(seen);
    std::ranges::sort(wanted);
    ensure(seen == wanted,
           "rank {}, step {}: other keys than those of its tiles",
           program_.rank, step);
  }

  const std::set<BlockId>& computed() const { return computed_; }
  const std::vector<Int>& kept() const { return kept_; }
  /// In the order of the rank's tokens.
  std::vector<Int> own_gradient() const {
    if (!program_.packs_gradients) return input_gradient_;
    std::vector<Int> gradient(input_.size());
    for (const Program::Packed& run : program_.packing) {
      for (Int i = 0; i < run.local.length; ++i) {
        gradient[run.local.at(i)] = packed_gradient_[run.begin + i];
      }
    }
    return gradient;
  }

 private:
  std::span<Int> gradients(const schedule::Place& place) {
    std::vector<Int>& memory = place.memory == schedule::Memory::packed
                                   ? packed_gradient_
                                   : scratch_[Payload::kv_grad];
    return std::span(memory).subspan(place.begin, place.size);
  }

  std::vector<Int> keys_of(const Program::Region& region) const {
    const std::vector<Int>& memory =
        region.memory == schedule::Memory::input  ? input_
        : region.memory == schedule::Memory::kept ? kept_
                                                  : scratch_.at(Payload::kv);
    std::vector<Int> keys;
    for (Int i = 0; i < region.keys.length; ++i) {
      keys.push_back(memory.at(region.keys.at(i)));
    }
    return keys;
  }

  void put_gradients(const Program::Region& region,
                     const std::vector<Int>& keys) {
    const bool own = region.memory == schedule::Memory::input;
    if (own && !program_.packs_gradients) {
      for (Int i = 0; i < region.keys.length; ++i) {
        input_gradient_[region.keys.at(i)] =
            gradient_of(program_.rank, keys[i]);
      }
      return;
    }
    const bool add = own && program_.packed_gradients_start_at_zero;
    for (const Program::Region::Gradient& gradient : region.gradients) {
      const std::span<Int> place = gradients(gradient.place);
      for (Int i = 0; i < gradient.keys.length; ++i) {
        const Int value =
            gradient_of(program_.rank, keys.at(gradient.keys.at(i)));
        place[i] = add ? place[i] + value : value;
      }
    }
  }

  const Program& program_;
  const Schedule& part_;
  int steps_ = 0;
  std::vector<Int> input_, input_gradient_, packed_, packed_gradient_, kept_;
  std::map<Payload, std::vector<Int>> scratch_;
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

/// What all ranks that need a key add to its gradient.
void check_gradient(const IntegerWorker& worker, Rank rank,
                    const schedule::AttentionDemand& demand, int strands) {
  std::vector<Int> wanted(demand.kv_layout().shard_tokens(rank));
  for (int strand = 0; strand < strands; ++strand) {
    for (int part = 0; part < demand.parts(rank); ++part) {
      const BlockId block{rank, strand, part};
      const schedule::Run local =
          demand.kv_layout().block_part(rank, strand, strands, part).local;
      for (Rank user = 0; user < demand.ranks(); ++user) {
        if (!demand.needs(user, block, strands)) continue;
        for (Int i = 0; i < local.length; ++i) {
          wanted[local.at(i)] += gradient_of(user, value_of(block, i));
        }
      }
    }
  }
  ensure(worker.own_gradient() == wanted, "rank {} has another gradient", rank);
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
                    const schedule::AttentionDemand& demand,
                    Communicator& communicator) {
  const Rank rank = communicator.rank();
  const int strands = strand_count(strategy, demand.ranks());
  const std::vector<Int> values = own_values(demand, rank, strands);
  const auto run = [&](const Program& program, const Schedule& part,
                       IntegerWorker& worker) {
    communicator.traffic() = {};
    execute(program, worker.memory(), worker, communicator,
            std::string("exchange ") + name(part.pass));
    ensure(worker.computed() == needed_by(rank, demand, strands),
           "rank {} did not compute exactly what it needs", rank);
    check_traffic(communicator.traffic(), rank, part);
  };
  const Schedule forward = rank_part(strategy, demand, Pass::forward, rank);
  const Program first = compile(forward, rank, demand, strands);
  IntegerWorker forward_worker(first, forward, values, {});
  run(first, forward, forward_worker);
  const Schedule backward = rank_part(strategy, demand, Pass::backward, rank);
  const Program second = compile(backward, rank, demand, strands, &first);
  IntegerWorker backward_worker(second, backward, values,
                                forward_worker.kept());
  run(second, backward, backward_worker);
  check_gradient(backward_worker, rank, demand, strands);
}

}  // namespace ringweave::comm
