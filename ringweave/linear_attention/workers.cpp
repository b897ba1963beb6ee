#include "ringweave/linear_attention/workers.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

#include <ATen/ATen.h>

#include "ringweave/base/error.h"
#include "ringweave/comm/tensor_buffer.h"

namespace ringweave::linear_attention {
namespace {

comm::Buffer bytes(const at::Tensor& buffer, std::int64_t offset,
                   std::int64_t size) {
  const auto unit = buffer.element_size();
  return comm::buffer_of(buffer).slice(offset * unit, size * unit);
}

at::Tensor joined(const std::vector<at::Tensor>& pieces) {
  return pieces.size() == 1 ? pieces.front() : at::cat(pieces);
}

}  // namespace

OverlappingWorker::OverlappingWorker(const Exchange& exchange,
                                     const schedule::Program& program)
    : exchange_(exchange), steps_(1) {
  // In a chain this rank may have to wait before it posts: work comes first.
  for (const schedule::Message& message : program.messages) {
    if (message.first.action == schedule::Action::compose) return;
  }
  for (const schedule::Message& message : program.messages) {
    steps_ = std::max(steps_, message.first.post_step + 1);
  }
}

void OverlappingWorker::compute(int step, std::span<const schedule::Tile>) {
  const std::size_t all = exchange_.work.size();
  const std::size_t target =
      step + 1 >= steps_ ? all : all * (step + 1) / steps_;
  for (; done_ < target; ++done_) exchange_.work[done_]();
}

GatherWorker::GatherWorker(const LinearPlan& plan, const Exchange& exchange,
                           SummarySize size, const schedule::Schedule& schedule,
                           const schedule::Program& program)
    : OverlappingWorker(exchange, program),
      plan_(plan),
      schedule_(schedule),
      options_(exchange.options.device(at::kCPU)) {
  for (int strand = 0; strand < plan.strands; ++strand) {
    own_.push_back(pack(exchange, size, strand));
  }
  for (const auto& [slot, units] :
       schedule::slot_sizes(schedule, plan.rank, schedule::Payload::summary)) {
    slots_[slot] = at::empty({units}, options_);
  }
}

at::Tensor GatherWorker::pack(const Exchange& exchange, SummarySize size,
                              int strand) const {
  std::vector<at::Tensor> pieces;
  const auto add = [&](const at::Tensor& x, std::int64_t elements) {
    const Range piece = cut({0, elements}, strand, plan_.strands);
    pieces.push_back(
        x.flatten().narrow(0, piece.begin, piece.size()).to(at::kCPU));
  };
  if (size.decay > 0) {
    for (const int place : plan_.own) add(exchange.decays[place], size.decay);
  }
  for (const at::Tensor& update : exchange.updates) add(update, size.update);
  return pieces.empty() ? at::empty({0}, options_) : joined(pieces);
}

comm::Buffer GatherWorker::outgoing(const schedule::Message& message) {
  const schedule::Transfer& t = message.first;
  const at::Tensor& buffer = t.source_slot == schedule::kOwn
                                 ? own_[t.block.strand]
                                 : slots_.at(t.source_slot);
  return bytes(buffer, message.offset, message.size);
}

comm::Buffer GatherWorker::incoming(const schedule::Message& message) {
  return bytes(slots_.at(message.first.slot), message.offset, message.size);
}

void GatherWorker::arrived(const schedule::Message& message) {
  schedule::BlockId block = message.first.block;
  for (int i = 0; i < message.parts; ++i, ++block.part) {
    received_[block] = slots_.at(message.first.slot)
                           .narrow(0, schedule::part_offset(schedule_, block),
                                   schedule::block_size(schedule_, block));
  }
}

at::Tensor GatherWorker::part(Rank owner, int part) const {
  std::vector<at::Tensor> pieces;
  for (int strand = 0; strand < plan_.strands; ++strand) {
    const auto found = received_.find({owner, strand, part});
    if (found != received_.end()) pieces.push_back(found->second);
  }
  return pieces.empty() ? at::Tensor() : joined(pieces);
}

ChainWorker::ChainWorker(const LinearPlan& plan, const Exchange& exchange,
                         const schedule::Program& program, Exchanged& result)
    : OverlappingWorker(exchange, program),
      plan_(plan),
      exchange_(exchange),
      result_(result),
      order_(scan_order(plan, exchange.pass)),
      outgoing_(plan.own.size()) {
  for (const schedule::Message& message : program.messages) {
    if (message.first.to != plan.rank) continue;
    incoming_[message.first.slot] = at::empty(
        {element_count(exchange.shape)}, exchange.options.device(at::kCPU));
  }
  if (!order_.empty()) compose_from(0, exchange.start);
}

void ChainWorker::compose_from(std::size_t step, at::Tensor state) {
  for (; step < order_.size(); ++step) {
    const LinearPlan::Piece& piece = plan_.segments[order_[step]];
    if (piece.rank != plan_.rank) return;
    result_.states[piece.part] = state;
    state = compose(state, result_.decays[order_[step]],
                    exchange_.updates[piece.part]);
    outgoing_[piece.part] = state.flatten().to(at::kCPU);
  }
  result_.end = state;
}

std::size_t ChainWorker::step_of(const schedule::BlockId& block) const {
  const auto found = std::find_if(order_.begin(), order_.end(), [&](int place) {
    const LinearPlan::Piece& piece = plan_.segments[place];
    return piece.rank == block.owner && piece.part == block.part;
  });
  ensure(found != order_.end(), "no segment {} of rank {}", block.part,
         block.owner);
  return static_cast<std::size_t>(found - order_.begin());
}

comm::Buffer ChainWorker::outgoing(const schedule::Message& message) {
  return bytes(outgoing_.at(message.first.block.part), 0, message.size);
}

comm::Buffer ChainWorker::incoming(const schedule::Message& message) {
  return bytes(incoming_.at(message.first.slot), 0, message.size);
}

void ChainWorker::arrived(const schedule::Message& message) {
  const at::Tensor state = incoming_.at(message.first.slot)
                               .view(exchange_.shape)
                               .to(exchange_.options.device());
  if (message.first.action == schedule::Action::copy) {
    result_.end = state;
  } else {
    compose_from(step_of(message.first.block) + 1, state);
  }
}

std::vector<int> scan_order(const LinearPlan& plan, schedule::Pass pass) {
  std::vector<int> order(plan.segments.size());
  std::iota(order.begin(), order.end(), 0);
  if (pass == schedule::Pass::backward)
    std::reverse(order.begin(), order.end());
  return order;
}

std::int64_t element_count(const std::vector<std::int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(),
                         std::int64_t{shape.empty() ? 0 : 1},
                         std::multiplies<>());
}

at::Tensor compose(const at::Tensor& state, const at::Tensor& decay,
                   const at::Tensor& update) {
  if (!state.defined()) return update.clone();
  return decay.defined() ? at::addcmul(update, state, decay) : state + update;
}

}  // namespace ringweave::linear_attention
