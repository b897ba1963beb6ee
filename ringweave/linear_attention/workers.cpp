#include "ringweave/linear_attention/workers.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "ringweave/base/error.h"

namespace ringweave::linear_attention {

WorkingWorker::WorkingWorker(const Exchange& exchange,
                             const schedule::ExchangeProgram& program)
    : exchange_(exchange), steps_(program.program.posting_steps()) {}

void WorkingWorker::compute(int step) {
  const std::size_t all = exchange_.work.size();
  const std::size_t target =
      step + 1 >= steps_ ? all : all * (step + 1) / steps_;
  for (; done_ < target; ++done_) exchange_.work[done_]();
}

GatherWorker::GatherWorker(const LinearPlan& plan, const Exchange& exchange,
                           const schedule::ExchangeProgram& program,
                           const ExchangeMemory& memory)
    : WorkingWorker(exchange, program) {
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

ComposingWorker::ComposingWorker(const LinearPlan& plan,
                                 const Exchange& exchange,
                                 const schedule::ExchangeProgram& program,
                                 const ExchangeMemory& memory)
    : WorkingWorker(exchange, program),
      plan_(plan),
      exchange_(exchange),
      program_(program),
      memory_(memory),
      order_(scan_order(plan, exchange.pass)) {
  if (exchange.start.defined()) start_ = exchange.start.contiguous();
  make_blocks(0);
}

void ComposingWorker::make_blocks(int step) {
  for (const Fold& fold : program_.blocks[step]) {
    const at::Tensor target = memory_.flat(fold.target);
    if (fold.what.decay) {
      fold_decay(fold, target);
    } else {
      fold_update(fold, target.view({fold.rows.size(), program_.shape.width}));
    }
  }
}

void ComposingWorker::finish(Exchanged& result) {
  for (const auto& [place, numbers, memory] : program_.brought) {
    exchange_.decays.select(0, segment(place))
        .view(-1)
        .narrow(0, numbers.begin, numbers.size())
        .copy_(memory_.flat(memory));
  }
  if (!order_.empty()) {
    const LinearPlan::Piece& first = plan_.segments[segment(0)];
    if (first.rank == plan_.rank) result.states[first.part] = start_;
  }
  for (const Fold& fold : program_.results) {
    const auto place = static_cast<std::size_t>(fold.what.places.end);
    at::Tensor& state = place == order_.size()
                            ? result.end
                            : result.states[plan_.segments[order_[place]].part];
    if (!state.defined()) {
      state = at::empty(exchange_.shape, exchange_.options);
    }
    fold_update(fold, state_rows(state, fold.rows));
  }
}

/// Rows of a contiguous state: (rows, width), a view.
at::Tensor ComposingWorker::state_rows(const at::Tensor& x,
                                       const Range& rows) const {
  return x.view({-1, program_.shape.width}).narrow(0, rows.begin, rows.size());
}

bool ComposingWorker::resets(const Range& places) const {
  for (std::int64_t place = places.begin; place < places.end; ++place) {
    if (!plan_.segments[segment(place)].tokens.resets.empty()) return true;
  }
  return false;
}

at::Tensor ComposingWorker::update(const Fold& fold,
                                   const Fold::Term& term) const {
  if (term.update) {
    return memory_.flat(*term.update)
        .view({fold.rows.size(), program_.shape.width});
  }
  const int part = plan_.segments[segment(term.places.begin)].part;
  return state_rows(exchange_.updates[part], fold.rows);
}

/// The sum of the logs of segments that this rank knows, in fp64, as broad as
/// the exchange has them.
at::Tensor ComposingWorker::own_decay(const Range& places) const {
  at::Tensor sum;
  for (std::int64_t place = places.begin; place < places.end; ++place) {
    const at::Tensor log =
        exchange_.decays.select(0, segment(place)).to(at::kDouble);
    sum = sum.defined() ? sum + log : log;
  }
  return sum;
}

/// What a term leaves of the state before it: (rows, 1) in fp64; undefined: 1.
at::Tensor ComposingWorker::factor(const Fold& fold,
                                   const Fold::Term& term) const {
  if (!exchange_.decays.defined()) return {};
  std::vector<std::int64_t> by_row = exchange_.shape;
  by_row.back() = 1;
  at::Tensor sum;
  for (const Fold::Decay& decay : term.decays) {
    at::Tensor log;
    if (decay.memory) {
      // Rows that share a number follow one another.
      const std::int64_t rows = program_.shape.rows / program_.shape.decays;
      log = memory_.flat(*decay.memory)
                .to(at::kDouble)
                .unsqueeze(1)
                .expand({decay.memory->size, rows})
                .reshape({-1, 1})
                .narrow(0, fold.rows.begin - fold.decays.begin * rows,
                        fold.rows.size());
    } else {
      log = own_decay(decay.places)
                .expand(by_row)
                .reshape({-1, 1})
                .narrow(0, fold.rows.begin, fold.rows.size());
    }
    sum = sum.defined() ? sum + log : log;
  }
  return sum.exp();
}

void ComposingWorker::fold_update(const Fold& fold,
                                  const at::Tensor& target) const {
  at::Tensor state;
  const Fold::Term& first = fold.terms.front();
  if (first.places.begin == 0 && !first.update && start_.defined()) {
    state = state_rows(start_, fold.rows);
  }
  for (const Fold::Term& term : fold.terms) {
    const at::Tensor before = resets(term.places) ? at::Tensor() : state;
    compose(target, before,
            before.defined() ? factor(fold, term) : at::Tensor(),
            update(fold, term));
    state = target;
  }
}

void ComposingWorker::fold_decay(const Fold& fold,
                                 const at::Tensor& target) const {
  const auto [begin, end] = fold.decays;
  at::Tensor sum;
  for (const Fold::Decay& decay : fold.terms.front().decays) {
    const at::Tensor log =
        decay.memory ? memory_.flat(*decay.memory).to(at::kDouble)
                     : own_decay(decay.places).view(-1).slice(0, begin, end);
    sum = sum.defined() ? sum + log : log;
  }
  target.copy_(sum);
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
