#include "ringweave/linear_attention/exchange.h"

#include <algorithm>
#include <utility>

#include <ATen/ATen.h>

#include "ringweave/base/error.h"
#include "ringweave/comm/executor.h"
#include "ringweave/linear_attention/workers.h"
#include "ringweave/schedule/strategy/chain_schedule.h"

namespace ringweave::linear_attention {
namespace {

const char* operation(schedule::Pass pass) {
  return pass == schedule::Pass::forward ? "linear attention forward"
                                         : "linear attention backward";
}

const schedule::Schedule& nominal_schedule(const LinearPlan& plan,
                                           const Exchange& exchange) {
  if (exchange.pass == schedule::Pass::backward) return plan.backward;
  return exchange.end_everywhere ? plan.forward_all : plan.forward;
}

/// Follows the states along the segments, as far as their updates are known.
/// `updates`: of all segments; undefined: unknown.
void scan(const LinearPlan& plan, const Exchange& exchange,
          const std::vector<at::Tensor>& updates, Exchanged& result) {
  at::Tensor state = exchange.start;
  for (const int place : scan_order(plan, exchange.pass)) {
    const LinearPlan::Piece& piece = plan.segments[place];
    if (piece.rank == plan.rank) result.states[piece.part] = state;
    if (!updates[place].defined()) return;
    state = compose(state, result.decays[place], updates[place]);
  }
  result.end = state;
}

std::vector<at::Tensor> own_updates(const LinearPlan& plan,
                                    const Exchange& exchange) {
  std::vector<at::Tensor> updates(plan.segments.size());
  for (std::size_t i = 0; i < plan.own.size(); ++i) {
    updates[plan.own[i]] = exchange.updates[i];
  }
  return updates;
}

SummarySize summary_size(const Exchange& exchange) {
  return {element_count(exchange.decay_shape), element_count(exchange.shape)};
}

SummaryDemand summary_demand(const LinearPlan& plan, const Exchange& exchange) {
  return {plan,
          exchange.pass == schedule::Pass::backward
              ? backward_readers(plan)
              : forward_readers(plan, exchange.end_everywhere),
          summary_size(exchange)};
}

void all_gather(const LinearPlan& plan, const Exchange& exchange,
                comm::Communicator& communicator, Exchanged& result) {
  const SummarySize size = summary_size(exchange);
  const SummaryDemand demand = summary_demand(plan, exchange);
  const schedule::Schedule schedule = exchange_schedule(plan, exchange);
  const schedule::Program program = schedule::make_program(schedule, plan.rank);
  GatherWorker worker(plan, exchange, size, schedule, program);
  comm::execute(program, worker, communicator, operation(exchange.pass));
  std::vector<at::Tensor> updates = own_updates(plan, exchange);
  for (std::size_t place = 0; place < updates.size(); ++place) {
    const auto [rank, part, tokens] = plan.segments[place];
    if (rank == plan.rank) continue;
    const int update_part = demand.parts(rank) / 2 + part;
    const at::Device device = exchange.options.device();
    // Of others, some strands may have come to be passed on.
    if (demand.needs(plan.rank, rank, update_part)) {
      updates[place] =
          worker.part(rank, update_part).view(exchange.shape).to(device);
    }
    if (size.decay > 0 && demand.needs(plan.rank, rank, part)) {
      result.decays[place] =
          worker.part(rank, part).view(exchange.decay_shape).to(device);
    }
  }
  scan(plan, exchange, updates, result);
}

void chain(const LinearPlan& plan, const Exchange& exchange,
           comm::Communicator& communicator, Exchanged& result) {
  const schedule::Program program =
      schedule::make_program(exchange_schedule(plan, exchange), plan.rank);
  ChainWorker worker(plan, exchange, program, result);
  comm::execute(program, worker, communicator, operation(exchange.pass));
}

}  // namespace

schedule::Schedule exchange_schedule(const LinearPlan& plan,
                                     const Exchange& exchange) {
  if (plan.spec.transport.kind == Transport::Kind::all_gather) {
    return bind(nominal_schedule(plan, exchange),
                summary_demand(plan, exchange), plan.strands);
  }
  schedule::Schedule schedule = nominal_schedule(plan, exchange);
  for (schedule::Block& block : schedule.blocks) {
    block.size = element_count(exchange.shape);
  }
  return schedule;
}

Exchanged exchange_states(const LinearPlan& plan, const Exchange& exchange,
                          comm::Communicator& communicator) {
  Exchanged result;
  result.states.resize(plan.own.size());
  result.decays = exchange.decays;
  if (nominal_schedule(plan, exchange).transfers.empty()) {
    scan(plan, exchange, own_updates(plan, exchange), result);
  } else if (plan.spec.transport.kind == Transport::Kind::chain) {
    chain(plan, exchange, communicator, result);
  } else {
    all_gather(plan, exchange, communicator, result);
  }
  if (plan.segments.empty()) result.end = exchange.start;
  const bool end_known = result.end.defined() || plan.segments.empty();
  ensure(end_known || !exchange.end_everywhere,
         "rank {} did not get the end state", plan.rank);
  if (!plan.causal()) {
    ensure(end_known || plan.own.empty(), "rank {} did not get the sum",
           plan.rank);
    std::fill(result.states.begin(), result.states.end(), result.end);
  }
  return result;
}

}  // namespace ringweave::linear_attention
