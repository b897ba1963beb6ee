#include "ringweave/linear_attention/exchange.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

#include <ATen/ATen.h>

#include "ringweave/base/error.h"
#include "ringweave/comm/executor.h"
#include "ringweave/device/torch_accelerator.h"
#include "ringweave/linear_attention/linear_attention.h"
#include "ringweave/linear_attention/workers.h"

namespace ringweave::linear_attention {
namespace {

using schedule::ExchangeProgram;
using schedule::Strips;

const char* operation(schedule::Pass pass) {
  return pass == schedule::Pass::forward ? kForwardPass : kBackwardPass;
}

/// 0 for no shape at all.
std::int64_t element_count(const std::vector<std::int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(),
                         std::int64_t{shape.empty() ? 0 : 1},
                         std::multiplies<>());
}

schedule::SummaryShape summary_shape(const Exchange& exchange) {
  const std::int64_t width = exchange.shape.back();
  return {element_count(exchange.shape) / width, width,
          element_count(exchange.decay_shape)};
}

/// What arrived, if messages brought it; all null on one rank.
struct Arrived {
  const ExchangeProgram* program = nullptr;
  const ExchangeMemory* memory = nullptr;
};

/// Follows the states along the segments, as far as their updates are known.
class Scan {
 public:
  Scan(const LinearPlan& plan, const Exchange& exchange, Arrived arrived,
       Exchanged& result)
      : plan_(plan),
        exchange_(exchange),
        arrived_(arrived),
        result_(result),
        decays_(exchange) {}

  void run() {
    // Strips of rows want it so.
    if (exchange_.start.defined()) state_ = exchange_.start.contiguous();
    for (const int place : scan_order(plan_, exchange_.pass)) {
      const LinearPlan::Piece& piece = plan_.segments[place];
      if (piece.rank == plan_.rank) {
        result_.states[piece.part] = state_;
        owned_ = false;
        const at::Tensor& update = exchange_.updates[piece.part];
        compose(next(), carried(piece, state_), decays_.of(place), update);
      } else if (!known(place)) {
        return;
      } else {
        add(arrived_.program->summaries[place].update, carried(piece, state_),
            decays_.of(place));
      }
      state_ = next_;
      owned_ = true;
    }
    result_.end = state_;
  }

 private:
  bool known(int place) const {
    return arrived_.program &&
           !arrived_.program->summaries[place].update.empty();
  }

  /// Where the state after a segment goes: in place of the one before, unless
  /// somebody has that.
  const at::Tensor& next() {
    next_ = owned_ ? state_ : at::empty(exchange_.shape, exchange_.options);
    return next_;
  }

  /// An update that arrived.
  void add(const std::vector<Strips>& update, const at::Tensor& state,
           const at::Tensor& decay) {
    const std::int64_t width = arrived_.program->shape.width;
    const at::Tensor sum = next();
    if (update.size() == 1 && update.front().strands == 1) {
      compose(sum, state, decay,
              arrived_.memory->rows(update.front(), width).view(sum.sizes()));
      return;
    }
    std::vector<std::int64_t> by_row = exchange_.shape;
    by_row.back() = 1;
    const at::Tensor decays =
        decay.defined() ? decay.expand(by_row).contiguous() : decay;
    for (const Strips& strips : update) {
      compose(rows_of(sum, strips, width),
              state.defined() ? rows_of(state, strips, width) : state,
              decays.defined() ? rows_of(decays, strips, 1) : decays,
              arrived_.memory->rows(strips, width));
    }
  }

  const LinearPlan& plan_;
  const Exchange& exchange_;
  const Arrived arrived_;
  Exchanged& result_;
  const Decays decays_;
  at::Tensor state_, next_;
  bool owned_ = false;  // whether only this scan has state_
};

/// Backward needs them too, so they leave the exchange's memory.
void take_decays(const LinearPlan& plan, const Exchange& exchange,
                 const ExchangeProgram& program, const ExchangeMemory& memory) {
  for (std::int64_t place = 0; place < std::ssize(plan.segments); ++place) {
    const auto& decay = program.summaries[place].decay;
    if (plan.segments[place].rank == plan.rank || decay.empty()) continue;
    const at::Tensor logs = exchange.decays.select(0, place);
    for (const Strips& strips : decay) {
      rows_of(logs, strips, 1).copy_(memory.rows(strips, 1));
    }
  }
}

/// With messages to or from this rank.
void exchange_messages(const LinearPlan& plan, const Exchange& exchange,
                       const ExchangeProgram& program,
                       comm::Communicator& communicator, Exchanged& result) {
  const device::Stream stream =
      device::current_stream(exchange.options.device());
  const ExchangeMemory memory(
      program, c10::typeMetaToScalarType(exchange.options.dtype()),
      communicator, stream);
  const auto run = [&](comm::Worker& worker) {
    comm::execute(program.program, memory.buffers(), worker, communicator,
                  operation(exchange.pass), stream);
  };
  if (program.composes) {
    ComposingWorker worker(plan, exchange, program, memory);
    run(worker);
    worker.finish(result);
    return;
  }
  GatherWorker worker(plan, exchange, program, memory);
  run(worker);
  take_decays(plan, exchange, program, memory);
  Scan(plan, exchange, {&program, &memory}, result).run();
}

}  // namespace

std::shared_ptr<const ExchangeProgram> exchange_program(
    const LinearPlan& plan, const Exchange& exchange) {
  return plan.program(exchange.pass, exchange.end_everywhere,
                      summary_shape(exchange));
}

Exchanged exchange_states(const LinearPlan& plan, const Exchange& exchange,
                          comm::Communicator& communicator) {
  Exchanged result;
  result.states.resize(plan.own.size());
  const auto program =
      plan.ranks() == 1 ? nullptr : exchange_program(plan, exchange);
  if (program && !program->program.messages.empty()) {
    exchange_messages(plan, exchange, *program, communicator, result);
  } else {
    Scan(plan, exchange, {}, result).run();
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
