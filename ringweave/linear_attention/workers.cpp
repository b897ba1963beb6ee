#include "ringweave/linear_attention/workers.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "ringweave/base/error.h"

namespace ringweave::linear_attention {

GatherWorker::GatherWorker(const LinearPlan& plan, const Exchange& exchange,
                           const schedule::ExchangeProgram& program,
                           const ExchangeMemory& memory)
    : exchange_(exchange) {
  const auto& steps = program.program.steps;
  for (std::size_t step = 0; step < steps.size(); ++step) {
    if (!steps[step].sends.empty() || !steps[step].receives.empty()) {
      steps_ = static_cast<int>(step) + 1;
    }
  }
  if (!program.program.packs_keys) return;  // it sends nothing of its own
  const auto pack = [&](const std::vector<schedule::Strips>& all,
                        const at::Tensor& x, std::int64_t width) {
    for (const schedule::Strips& strips : all) {
      memory.rows(strips, width).copy_(rows_of(x, strips, width));
    }
  };
  for (std::size_t i = 0; i < plan.own.size(); ++i) {
    const auto& summary = program.summaries[plan.own[i]];
    pack(summary.update, exchange.updates[i], program.shape.width);
    if (!summary.decay.empty()) {
      pack(summary.decay, exchange.decays.select(0, plan.own[i]), 1);
    }
  }
}

void GatherWorker::compute(int step) {
  const std::size_t all = exchange_.work.size();
  const std::size_t target =
      step + 1 >= steps_ ? all : all * (step + 1) / steps_;
  for (; done_ < target; ++done_) exchange_.work[done_]();
}

ComposingWorker::ComposingWorker(const LinearPlan& plan,
                                 const Exchange& exchange,
                                 const schedule::ExchangeProgram& program,
                                 const ExchangeMemory& memory,
                                 Exchanged& result)
    : plan_(plan),
      exchange_(exchange),
      program_(program),
      memory_(memory),
      result_(result),
      decays_(exchange),
      order_(scan_order(plan, exchange.pass)) {
  if (!order_.empty()) compose_from(0, exchange.start);
}

void ComposingWorker::compose_from(std::size_t step, at::Tensor state) {
  for (; step < order_.size(); ++step) {
    const int place = order_[step];
    const LinearPlan::Piece& piece = plan_.segments[place];
    if (piece.rank != plan_.rank) return;
    result_.states[piece.part] = state;
    const bool last = step + 1 == order_.size();
    const bool stays =
        last || plan_.segments[order_[step + 1]].rank == plan_.rank;
    const at::Tensor& update = exchange_.updates[piece.part];
    const at::Tensor next = stays ? at::empty_like(update) : packed(place);
    compose(next, carried(piece, state), decays_.of(place), update);
    if (last && (exchange_.end_everywhere || !plan_.causal())) {
      packed(place).copy_(next);
    }
    state = next;
  }
  result_.end = state;
}

at::Tensor ComposingWorker::packed(int place) const {
  return memory_
      .rows(program_.summaries[place].update.front(), program_.shape.width)
      .view(exchange_.shape);
}

std::size_t ComposingWorker::step_of(const schedule::BlockId& block) const {
  const auto found = std::find_if(order_.begin(), order_.end(), [&](int place) {
    const LinearPlan::Piece& piece = plan_.segments[place];
    return piece.rank == block.owner && piece.part == block.part;
  });
  ensure(found != order_.end(), "no segment {} of rank {}", block.part,
         block.owner);
  return static_cast<std::size_t>(found - order_.begin());
}

void ComposingWorker::arrived(int step) {
  for (const int i : program_.program.steps[step].arrivals) {
    const schedule::Program::Message& message = program_.program.messages[i];
    ensure(message.parts == 1, "{} states in one message", message.parts);
    // The memory is another exchange's next time.
    const at::Tensor state =
        memory_.flat(message.place).view(exchange_.shape).clone();
    compose_from(step_of(message.block) + 1, state);
  }
}

void ComposingWorker::compute(int step) {
  if (step > 0) return;
  for (const auto& work : exchange_.work) work();
}

std::vector<int> scan_order(const LinearPlan& plan, schedule::Pass pass) {
  std::vector<int> order(plan.segments.size());
  std::iota(order.begin(), order.end(), 0);
  if (pass == schedule::Pass::backward)
    std::reverse(order.begin(), order.end());
  return order;
}

at::Tensor carried(const LinearPlan::Piece& segment, const at::Tensor& state) {
  return segment.tokens.resets.empty() ? state : at::Tensor();
}

void compose(at::Tensor sum, const at::Tensor& state, const at::Tensor& decay,
             const at::Tensor& update) {
  if (!state.defined()) {
    sum.copy_(update);
  } else if (decay.defined()) {
    sum.copy_((state * decay).add_(update));
  } else {
    at::add_out(sum, state, update);
  }
}

}  // namespace ringweave::linear_attention
