#include <limits>
#include <utility>

#include <ATen/ATen.h>

#include "ringweave/attention/passes.h"
#include "ringweave/tensor/scalar_type.h"

namespace ringweave::attention {

using schedule::Memory;
using schedule::Payload;
using schedule::Program;
using schedule::Run;

BackwardPass::BackwardPass(PassInput input, const at::Tensor& grad_out,
                           const at::Tensor& out, at::Tensor lse,
                           at::Tensor kept, at::ScalarType grad_payload,
                           comm::Communicator& communicator)
    : input_(std::move(input)),
      program_(input_.plan->backward),
      communicator_(communicator),
      steps_(input_.plan->backward_calls.get(program_, input_.kind())),
      memory_(program_, input_, grad_payload, std::move(kept), communicator),
      q_(input_.q.to(steps_->type)),
      grad_out_(grad_out.to(steps_->type)),
      out_(out.to(steps_->type)),
      lse_(std::move(lse)),
      sum_type_(tensor::accumulate_type(input_.type())) {}

void BackwardPass::run() {
  communicator_.traffic().note_buffers(buffer_bytes());
  if (program_.packs_keys) {
    pack(input_.kv, program_.packing,
         memory_.wire(Payload::kv, Memory::packed));
  }
  if (program_.packs_gradients && program_.packed_gradients_start_at_zero) {
    memory_.wire(Payload::kv_grad, Memory::packed).zero_();
  }
  for (const Range& rows : program_.rows_to_clear) clear_queries(rows);
  comm::execute(program_, memory_.buffers(), *this, communicator_,
                kBackwardPass, input_.stream);
}

void BackwardPass::arrived(int step) {
  for (const Program::Sum& sum : program_.steps[step].sums) {
    const auto part = [&](const schedule::Place& place) {
      return memory_.wire(Payload::kv_grad, place.memory)
          .narrow(0, place.begin, place.size);
    };
    part(sum.to).add_(part(sum.from));
  }
}

void BackwardPass::compute(int step) {
  for (const PreparedRegion& region : steps_->regions.at(step)) compute(region);
}

void BackwardPass::compute(const PreparedRegion& region) {
  const KvPair keys =
      region_keys(input_, memory_, *region.region, steps_->type);
  for (const Range& rows : region.rows_to_clear) clear_queries(rows);
  for (const Range& range : region.keys_to_clear) {
    clear_gradients(*region.region, range);
  }
  for (const PreparedCall& call : region.calls) {
    const Range& rows = call.area.rows;
    at::Tensor lse = lse_.narrow(2, rows.begin, rows.size());
    if (call.blind.defined()) {
      lse =
          lse.masked_fill(call.blind, std::numeric_limits<double>::infinity());
    }
    const TileGradients gradients =
        call.kernel->backward(grad_out_.narrow(1, rows.begin, rows.size()),
                              make_tile(q_, keys, call, input_.scale),
                              out_.narrow(1, rows.begin, rows.size()), lse);
    add_to_queries(call, gradients.q);
    add_to_keys(*region.region, call, gradients);
  }
}

at::Tensor BackwardPass::grad_q(const Range& rows) {
  if (!grad_q_.defined()) {
    grad_q_ = at::empty(q_.sizes(), q_.options().dtype(sum_type_));
  }
  return grad_q_.narrow(1, rows.begin, rows.size());
}

void BackwardPass::clear_queries(const Range& rows) { grad_q(rows).zero_(); }

void BackwardPass::add_to_queries(const PreparedCall& call,
                                  const at::Tensor& part) {
  const Range& rows = call.area.rows;
  if (call.first_for_rows && rows == Range{0, q_.size(1)} &&
      !grad_q_.defined() && part.scalar_type() == sum_type_) {
    grad_q_ = part;  // nothing was there
    return;
  }
  const at::Tensor sum = grad_q(rows);
  if (call.first_for_rows) {
    sum.copy_(part);
  } else {
    sum.add_(part);
  }
}

void BackwardPass::add_to_keys(const Program::Region& region,
                               const PreparedCall& call,
                               const TileGradients& gradients) {
  const KvPair from = {gradients.k, gradients.v};
  const Range& keys = call.area.keys;
  if (region.memory == Memory::input && !program_.packs_gradients) {
    const Run tokens = {region.keys.at(keys.begin), keys.size(),
                        region.keys.stride};
    const KvPair sum = own_gradients(tokens);
    if (call.first_for_keys) {
      sum.k.copy_(from.k);
      sum.v.copy_(from.v);
    } else {
      sum.k.add_(from.k);
      sum.v.add_(from.v);
    }
    return;
  }
  for (const Program::Region::Gradient& gradient : region.gradients) {
    const Range some = gradient.keys.indices_in(keys);
    if (some.empty()) continue;
    put(from,
        {gradient.keys.at(some.begin) - keys.begin, some.size(),
         gradient.keys.stride},
        memory_.wire(Payload::kv_grad, gradient.place.memory),
        gradient.place.begin + some.begin, !call.first_for_keys);
  }
}

void BackwardPass::clear_gradients(const Program::Region& region,
                                   const Range& keys) {
  if (region.memory == Memory::input && !program_.packs_gradients) {
    const KvPair sum = own_gradients(
        {region.keys.at(keys.begin), keys.size(), region.keys.stride});
    sum.k.zero_();
    sum.v.zero_();
    return;
  }
  for (const Program::Region::Gradient& gradient : region.gradients) {
    const Range some = gradient.keys.indices_in(keys);
    memory_.wire(Payload::kv_grad, gradient.place.memory)
        .narrow(0, gradient.place.begin + some.begin, some.size())
        .zero_();
  }
}

KvPair BackwardPass::own_gradients(const Run& tokens) {
  if (!grad_own_.k.defined()) {
    const at::TensorOptions options = input_.kv.k.options().dtype(sum_type_);
    grad_own_ = {at::empty(input_.kv.k.sizes(), options),
                 at::empty(input_.kv.v.sizes(), options)};
    if (program_.packed_gradients_start_at_zero) {
      grad_own_.k.zero_();
      grad_own_.v.zero_();
    }
  }
  return take(grad_own_, tokens);
}

KvPair BackwardPass::grad_kv() {
  if (!program_.packs_gradients) {
    const KvPair own =
        own_gradients({0, program_.packed_size, 1});  // zero if not computed
    return {own.k.to(input_.type()), own.v.to(input_.type())};
  }
  const KvPair result = {at::empty(input_.kv.k.sizes(), input_.kv.k.options()),
                         at::empty(input_.kv.v.sizes(), input_.kv.v.options())};
  unpack(memory_.wire(Payload::kv_grad, Memory::packed), program_.packing,
         result);
  return result;
}

}  // namespace ringweave::attention
