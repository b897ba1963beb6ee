#include <utility>

#include <ATen/ATen.h>

#include "ringweave/attention/passes.h"
#include "ringweave/base/error.h"

namespace ringweave::attention {
namespace {

at::Tensor zeros_to_accumulate(const at::Tensor& like) {
  return at::zeros(like.sizes(),
                   like.options().dtype(accumulate_type(like.scalar_type())));
}

}  // namespace

BackwardPass::BackwardPass(PassInput input, at::Tensor grad_out, at::Tensor out,
                           at::Tensor lse,
                           const std::map<int, at::Tensor>& retained,
                           at::ScalarType grad_payload)
    : input_(std::move(input)),
      grad_out_(std::move(grad_out)),
      out_(std::move(out)),
      lse_(std::move(lse)),
      own_(pack_own(input_, input_.plan.backward, input_.plan.backward_work)),
      kv_slots_(input_.plan.backward, input_.rank, schedule::Payload::kv,
                input_.kv_shape(), input_.kv.k.options()),
      grad_slots_(input_.plan.backward, input_.rank, schedule::Payload::kv_grad,
                  input_.kv_shape(), input_.kv.k.options().dtype(grad_payload)),
      grad_q_(zeros_to_accumulate(input_.q)),
      grad_own_{zeros_to_accumulate(input_.kv.k),
                zeros_to_accumulate(input_.kv.v)} {
  for (const auto& [slot, content] : retained) kv_slots_.adopt(slot, content);
}

std::span<const std::byte> BackwardPass::outgoing(
    const schedule::Message& message) {
  const schedule::Transfer& transfer = message.first;
  const bool own = transfer.source_slot == schedule::kOwn;
  const at::Tensor& source = transfer.payload == schedule::Payload::kv_grad
                                 ? grad_slots_.at(transfer.source_slot)
                                 : (own ? own_.at(transfer.block.strand)
                                        : kv_slots_.at(transfer.source_slot));
  return bytes_of(source, message.offset, message.size, input_.kv_shape());
}

std::span<std::byte> BackwardPass::incoming(const schedule::Message& message) {
  const schedule::Transfer& transfer = message.first;
  const Slots& slots =
      transfer.payload == schedule::Payload::kv_grad ? grad_slots_ : kv_slots_;
  return bytes_of(slots.at(transfer.slot), message.offset, message.size,
                  input_.kv_shape());
}

void BackwardPass::arrived(const schedule::Message& message) {
  const schedule::Transfer& transfer = message.first;
  if (transfer.action != schedule::Action::add) return;
  const at::Tensor& staging = grad_slots_.at(transfer.slot);
  for (int i = 0; i < message.parts; ++i) {
    schedule::BlockId block = transfer.block;
    block.part += i;
    const Place place = input_.plan.backward_work.places.at(block);
    const KvPair part =
        view_part(staging, place.offset, place.size, input_.kv_shape());
    KvPair sum;
    if (block.owner == input_.rank) {
      sum = take(grad_own_, input_.plan.spec.kv_layout
                                .block_part(block.owner, block.strand,
                                            input_.plan.strands, block.part)
                                .local);
    } else {
      const int slot = input_.plan.backward_work.grad_slots.at(block);
      sum = view_part(grad_slots_.at(slot), place.offset, place.size,
                      input_.kv_shape());
    }
    sum.k.add_(part.k);
    sum.v.add_(part.v);
  }
}

void BackwardPass::compute(int step, std::span<const schedule::Tile>) {
  for (const TileWork& work : input_.plan.backward_work.steps.at(step)) {
    compute(work);
  }
}

void BackwardPass::compute(const TileWork& work) {
  const KvShape shape = input_.kv_shape();
  const auto part_of = [&](const Slots& slots, int slot) {
    return view_part(slots.at(slot), work.place.offset, work.place.size, shape);
  };
  const KvPair keys =
      work.own ? take(input_.kv, work.local) : part_of(kv_slots_, work.slot);
  const KvPair grads = work.own ? take(grad_own_, work.local)
                                : part_of(grad_slots_, work.grad_slot);
  if (!work.own) {
    grads.k.zero_();
    grads.v.zero_();
  }
  for (const LocalTile& tile : work.tiles) {
    const auto rows = [&](const at::Tensor& x, int dimension) {
      return x.narrow(dimension, tile.rows.begin, tile.rows.size());
    };
    const schedule::Run columns = {tile.keys.begin, tile.keys.size(), 1};
    const KvPair seen = take(keys, columns);
    const TileGradients part =
        tile_backward(rows(grad_out_, 1), rows(input_.q, 1), seen.k, seen.v,
                      rows(out_, 1), rows(lse_, 2), tile, input_.scale);
    rows(grad_q_, 1).add_(part.q);
    const KvPair sum = take(grads, columns);
    sum.k.add_(part.k);
    sum.v.add_(part.v);
  }
}

}  // namespace ringweave::attention
