#include "ringweave/linear_attention/passes.h"

#include <span>
#include <utility>

#include <ATen/ATen.h>

#include "ringweave/linear_attention/exchange.h"

namespace ringweave::linear_attention {
namespace {

bool data_dependent(Decay decay) {
  return decay == Decay::per_head || decay == Decay::per_key;
}

/// What both directions have in common.
Exchange make_exchange(schedule::Pass pass, const Inputs& inputs,
                       at::Tensor decays, at::Tensor start) {
  Exchange exchange;
  exchange.pass = pass;
  exchange.options = inputs.state_options();
  exchange.shape = inputs.state_shape();
  if (data_dependent(inputs.decay)) {
    exchange.decay_shape = exchange.shape;
    exchange.decay_shape[3] = 1;
    if (inputs.decay == Decay::per_head) exchange.decay_shape[2] = 1;
  }
  exchange.decays = std::move(decays);
  exchange.start = std::move(start);
  return exchange;
}

at::Tensor zero_state(const Exchange& exchange) {
  return at::zeros(exchange.shape, exchange.options);
}

/// The logs of all segments' decays where these don't depend on tokens.
at::Tensor known_decays(const Inputs& inputs, const LinearPlan& plan) {
  if (!plan.causal()) return {};
  std::vector<SegmentTokens> segments;
  for (const LinearPlan::Piece& piece : plan.segments) {
    segments.push_back(piece.tokens);
  }
  return fixed_decays(inputs, segments);
}

/// The logs of all segments' decays, with room for those that arrive.
at::Tensor all_decays(const Exchange& exchange, const Inputs& inputs,
                      const LinearPlan& plan,
                      const std::vector<ForwardSegment>& own) {
  if (!data_dependent(inputs.decay)) return known_decays(inputs, plan);
  std::vector<std::int64_t> shape = exchange.decay_shape;
  shape.insert(shape.begin(), std::ssize(plan.segments));
  at::Tensor decays = at::zeros(shape, exchange.options);
  for (std::size_t i = 0; i < own.size(); ++i) {
    decays.select(0, plan.own[i]).copy_(own[i].decay());
  }
  return decays;
}

template <typename T>
void sum_over_ranks(const at::Tensor& x, comm::Communicator& communicator) {
  communicator.all_reduce_sum(
      std::span<T>(x.data_ptr<T>(), static_cast<std::size_t>(x.numel())));
}

/// The sum over ranks of the gradient that flows into the final state.
at::Tensor total_gradient(const at::Tensor& part, const Inputs& inputs,
                          comm::Communicator& communicator) {
  if (communicator.size() == 1) return part.to(inputs.type).contiguous();
  const at::Tensor sum =
      part.to(at::kCPU, inputs.type, false, true).contiguous();
  if (inputs.type == at::kDouble) {
    sum_over_ranks<double>(sum, communicator);
  } else {
    sum_over_ranks<float>(sum, communicator);
  }
  return sum.to(inputs.q.device());
}

Gradients empty_gradients(const Inputs& inputs, bool want_gates) {
  Gradients result{at::empty(inputs.q.sizes(), inputs.q.options()),
                   at::empty(inputs.k.sizes(), inputs.k.options()),
                   at::empty(inputs.v.sizes(), inputs.v.options()),
                   {}};
  if (want_gates) {
    result.gates = at::zeros(inputs.gates.sizes(), inputs.gates.options());
  }
  return result;
}

}  // namespace

LinearForward run_forward(const Inputs& inputs, const at::Tensor& initial,
                          bool final_state, const LinearPlan& plan,
                          comm::Communicator& communicator) {
  std::vector<ForwardSegment> segments;
  for (const int place : plan.own) {
    segments.emplace_back(inputs, plan.segments[place].tokens);
  }
  Exchange exchange =
      make_exchange(schedule::Pass::forward, inputs, {}, initial);
  exchange.decays = all_decays(exchange, inputs, plan, segments);
  exchange.end_everywhere = final_state;
  for (ForwardSegment& segment : segments) {
    exchange.updates.push_back(segment.update());
    for (int block = 0; block < segment.blocks(); ++block) {
      exchange.work.push_back([&segment, block] { segment.prepare(block); });
    }
  }
  Exchanged exchanged = exchange_states(plan, exchange, communicator);
  LinearForward result;
  result.out = at::empty({inputs.batch(), inputs.q.size(1), inputs.out_heads(),
                          inputs.value_dim()},
                         inputs.v.options());
  for (std::size_t i = 0; i < segments.size(); ++i) {
    segments[i].finish(exchanged.states[i], result.out);
    result.states.push_back(segments[i].kept());
  }
  if (final_state) {
    result.final_state = exchanged.end.defined()
                             ? exchanged.end.clone(at::MemoryFormat::Contiguous)
                             : zero_state(exchange);
  }
  if (data_dependent(inputs.decay)) {
    result.decays = std::move(exchange.decays);
  }
  return result;
}

LinearGradients run_backward(const Inputs& inputs, const LinearForward& forward,
                             const at::Tensor& dout, const at::Tensor& dfinal,
                             bool want_gates, const LinearPlan& plan,
                             comm::Communicator& communicator) {
  Exchange exchange = make_exchange(
      schedule::Pass::backward, inputs,
      data_dependent(inputs.decay)
          ? forward.decays.narrow(0, 0, std::ssize(plan.segments))
          : known_decays(inputs, plan),
      dfinal.defined() ? total_gradient(dfinal, inputs, communicator)
                       : at::Tensor());
  std::vector<BackwardSegment> segments;
  segments.reserve(plan.own.size());
  for (std::size_t i = 0; i < plan.own.size(); ++i) {
    segments.emplace_back(inputs, plan.segments[plan.own[i]].tokens,
                          forward.states[i], dout, want_gates);
  }
  for (BackwardSegment& segment : segments) {
    exchange.updates.push_back(segment.update());
    for (int block = 0; block < segment.blocks(); ++block) {
      exchange.work.push_back([&segment, block] { segment.prepare(block); });
    }
  }
  const Exchanged exchanged = exchange_states(plan, exchange, communicator);
  const Gradients result = empty_gradients(inputs, want_gates);
  for (std::size_t i = 0; i < segments.size(); ++i) {
    segments[i].finish(exchanged.states[i], result);
  }
  const Rank first = plan.segments.empty() ? 0 : plan.segments.front().rank;
  return {result.q, result.k, result.v, result.gates,
          plan.rank == first && exchanged.end.defined()
              ? exchanged.end.clone(at::MemoryFormat::Contiguous)
              : zero_state(exchange)};
}

std::map<Rank, std::int64_t> planned_bytes(const Inputs& inputs, bool backward,
                                           const LinearPlan& plan) {
  if (plan.ranks() == 1) return {};
  std::vector<schedule::Pass> passes = {schedule::Pass::forward};
  if (backward) passes.push_back(schedule::Pass::backward);
  const schedule::UnitBytes units = {
      {schedule::Payload::summary,
       static_cast<std::int64_t>(at::elementSize(inputs.type))}};
  std::map<Rank, std::int64_t> bytes;
  for (const schedule::Pass pass : passes) {
    const auto program =
        exchange_program(plan, make_exchange(pass, inputs, {}, {}));
    for (const auto& [to, sent] : program->program.sent_bytes(units)) {
      bytes[to] += sent;
    }
  }
  return bytes;
}

}  // namespace ringweave::linear_attention
