#include <utility>

#include <ATen/ATen.h>

#include "ringweave/attention/merge.h"
#include "ringweave/attention/passes.h"
#include "ringweave/tensor/scalar_type.h"

namespace ringweave::attention {

ForwardPass::ForwardPass(PassInput input, comm::Communicator& communicator,
                         std::int64_t room)
    : input_(std::move(input)),
      program_(input_.plan->forward),
      communicator_(communicator),
      steps_(input_.plan->forward_calls.get(program_, input_.kind())),
      memory_(program_, input_, tensor::accumulate_type(input_.type()), {},
              communicator, room),
      q_(input_.q.to(steps_->type)),
      sum_type_(tensor::accumulate_type(input_.type())) {}

void ForwardPass::run() {
  communicator_.traffic().note_buffers(buffer_bytes());
  if (program_.packs_keys) {
    pack(input_.kv, program_.packing,
         memory_.wire(schedule::Payload::kv, schedule::Memory::packed));
  }
  if (!program_.rows_to_clear.empty() || q_.size(1) == 0) make_result();
  for (const Range& range : program_.rows_to_clear) clear(rows(range));
  comm::execute(program_, memory_.buffers(), *this, communicator_, kForwardPass,
                input_.stream);
}

void ForwardPass::make_result() {
  if (result_.out.defined()) return;
  const at::TensorOptions options = q_.options().dtype(sum_type_);
  result_.out = at::empty(q_.sizes(), options);
  result_.lse =
      at::empty({q_.size(0), q_.size(1), q_.size(2)}, options).transpose(1, 2);
}

Partial ForwardPass::rows(const Range& range) const {
  return {result_.out.narrow(1, range.begin, range.size()),
          result_.lse.narrow(2, range.begin, range.size())};
}

void ForwardPass::compute(int step) {
  for (const PreparedRegion& region : steps_->regions.at(step)) compute(region);
}

void ForwardPass::compute(const PreparedRegion& region) {
  const KvPair keys =
      region_keys(input_, memory_, *region.region, steps_->type);
  if (!region.rows_to_clear.empty()) make_result();
  for (const Range& range : region.rows_to_clear) clear(rows(range));
  for (const PreparedCall& call : region.calls) {
    const Range& range = call.area.rows;
    Partial part =
        call.kernel->forward(make_tile(q_, keys, call, input_.scale));
    if (call.blind.defined()) clear(part, call.blind);
    if (call.first_for_rows && range == Range{0, q_.size(1)} &&
        !result_.out.defined() && part.out.scalar_type() == sum_type_) {
      result_ = std::move(part);  // nothing was there
      continue;
    }
    make_result();
    const Partial total = rows(range);
    if (call.first_for_rows) {
      total.out.copy_(part.out);
      total.lse.copy_(part.lse);
    } else {
      part.out = part.out.to(sum_type_);
      merge_into(total, part);
    }
  }
}

}  // namespace ringweave::attention
