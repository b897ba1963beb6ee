#include <limits>
#include <utility>

#include <ATen/ATen.h>

#include "ringweave/attention/passes.h"
#include "ringweave/base/error.h"

namespace ringweave::attention {

std::map<int, at::Tensor> pack_own(const PassInput& input,
                                   const schedule::Schedule& schedule,
                                   const PassWork& work) {
  const KvShape shape = input.kv_shape();
  std::map<int, std::int64_t> strand_units;
  for (const schedule::Transfer& transfer : schedule.transfers) {
    if (transfer.from == input.rank && transfer.source_slot == schedule::kOwn &&
        transfer.payload == schedule::Payload::kv) {
      strand_units[transfer.block.strand] = 0;
    }
  }
  for (const auto& [block, place] : work.places) {
    const auto found = strand_units.find(block.strand);
    if (block.owner == input.rank && found != strand_units.end()) {
      found->second = std::max(found->second, place.offset + place.size);
    }
  }
  std::map<int, at::Tensor> packed;
  for (const auto& [strand, units] : strand_units) {
    packed[strand] = at::empty({units * shape.unit()}, input.kv.k.options());
  }
  for (const auto& [block, place] : work.places) {
    const auto found = packed.find(block.strand);
    if (block.owner != input.rank || found == packed.end()) continue;
    const auto part = input.plan.spec.kv_layout.block_part(
        block.owner, block.strand, input.plan.strands, block.part);
    const KvPair from = take(input.kv, part.local);
    const KvPair to = view_part(found->second, place.offset, place.size, shape);
    to.k.copy_(from.k);
    to.v.copy_(from.v);
  }
  return packed;
}

ForwardPass::ForwardPass(PassInput input)
    : input_(std::move(input)),
      own_(pack_own(input_, input_.plan.forward, input_.plan.forward_work)),
      slots_(input_.plan.forward, input_.rank, schedule::Payload::kv,
             input_.kv_shape(), input_.kv.k.options()) {
  const auto options =
      input_.q.options().dtype(accumulate_type(input_.q.scalar_type()));
  const auto& q = input_.q;
  result_.out = at::zeros(q.sizes(), options);
  result_.lse = at::full({q.size(0), q.size(2), q.size(1)},
                         -std::numeric_limits<double>::infinity(), options);
}

std::span<const std::byte> ForwardPass::outgoing(
    const schedule::Message& message) {
  const schedule::Transfer& transfer = message.first;
  const at::Tensor& source = transfer.source_slot == schedule::kOwn
                                 ? own_.at(transfer.block.strand)
                                 : slots_.at(transfer.source_slot);
  return bytes_of(source, message.offset, message.size, input_.kv_shape());
}

std::span<std::byte> ForwardPass::incoming(const schedule::Message& message) {
  return bytes_of(slots_.at(message.first.slot), message.offset, message.size,
                  input_.kv_shape());
}

void ForwardPass::compute(int step, std::span<const schedule::Tile>) {
  for (const TileWork& work : input_.plan.forward_work.steps.at(step)) {
    compute(work);
  }
}

void ForwardPass::compute(const TileWork& work) {
  const KvPair keys = work.own
                          ? take(input_.kv, work.local)
                          : view_part(slots_.at(work.slot), work.place.offset,
                                      work.place.size, input_.kv_shape());
  for (const LocalTile& tile : work.tiles) {
    const auto rows = [&](const at::Tensor& x, int dimension) {
      return x.narrow(dimension, tile.rows.begin, tile.rows.size());
    };
    const schedule::Run columns = {tile.keys.begin, tile.keys.size(), 1};
    const KvPair seen = take(keys, columns);
    merge_into(
        {rows(result_.out, 1), rows(result_.lse, 2)},
        tile_forward(rows(input_.q, 1), seen.k, seen.v, tile, input_.scale));
  }
}

std::map<int, at::Tensor> ForwardPass::retained() const {
  std::map<int, at::Tensor> retained;
  for (const schedule::Retained& kept : input_.plan.forward.retained) {
    if (kept.rank == input_.rank) retained[kept.slot] = slots_.at(kept.slot);
  }
  return retained;
}

}  // namespace ringweave::attention
