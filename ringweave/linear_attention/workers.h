// The exchange's workers: what is computed while messages are under way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <ATen/ATen.h>

#include "ringweave/comm/executor.h"
#include "ringweave/linear_attention/exchange.h"
#include "ringweave/linear_attention/exchange_memory.h"

namespace ringweave::linear_attention {

/// Runs the exchange's local work, spread over the steps that still post
/// something: a rank that waits in a later step has done most of it by then.
class WorkingWorker : public comm::Worker {
 public:
  /// The arguments must outlive it.
  WorkingWorker(const Exchange& exchange,
                const schedule::ExchangeProgram& program);

  void compute(int step) final;

 private:
  const Exchange& exchange_;
  const int steps_;
  std::size_t done_ = 0;
};

/// For summaries. What arrives is left where it is.
class GatherWorker final : public WorkingWorker {
 public:
  /// Packs own summaries. All arguments must outlive it.
  GatherWorker(const LinearPlan& plan, const Exchange& exchange,
               const schedule::ExchangeProgram& program,
               const ExchangeMemory& memory);

  void arrived(int) override {}
};

/// The decays of an exchange's segments as factors, in fp64.
class Decays {
 public:
  /// As they are now.
  explicit Decays(const Exchange& exchange)
      : factors_(exchange.decays.defined()
                     ? exchange.decays.to(at::kDouble).exp()
                     : at::Tensor()) {}
  /// Of one segment, broadcastable to states; undefined: 1.
  at::Tensor of(int place) const {
    return factors_.defined() ? factors_.select(0, place) : at::Tensor();
  }

 private:
  at::Tensor factors_;
};

/// Makes the program's blocks as soon as what they are made of is there.
class ComposingWorker final : public WorkingWorker {
 public:
  /// Makes those that need no message. All arguments must outlive it.
  ComposingWorker(const LinearPlan& plan, const Exchange& exchange,
                  const schedule::ExchangeProgram& program,
                  const ExchangeMemory& memory);

  void arrived(int step) override { make_blocks(step); }
  /// Once all messages are there: own states and the end into `result`, and
  /// decays that arrived into the exchange's.
  void finish(Exchanged& result);

 private:
  using Fold = schedule::Fold;

  void make_blocks(int step);
  void fold_update(const Fold& fold, const at::Tensor& target) const;
  void fold_decay(const Fold& fold, const at::Tensor& target) const;
  int segment(std::int64_t place) const { return order_[place]; }
  bool resets(const Range& places) const;
  at::Tensor update(const Fold& fold, const Fold::Term& term) const;
  at::Tensor own_decay(const Range& places) const;
  at::Tensor factor(const Fold& fold, const Fold::Term& term) const;
  at::Tensor state_rows(const at::Tensor& x, const Range& rows) const;

  const LinearPlan& plan_;
  const Exchange& exchange_;
  const schedule::ExchangeProgram& program_;
  const ExchangeMemory& memory_;
  std::vector<int> order_;  // segments, in the order of the pass
  at::Tensor start_;
};

/// The places of the segments in the order in which states pass them.
std::vector<int> scan_order(const LinearPlan& plan, schedule::Pass pass);

/// What of a state counts beyond a segment: undefined if a document starts in
/// the segment, so that the state is replaced and not multiplied by 0.
at::Tensor carried(const LinearPlan::Piece& segment, const at::Tensor& state);

/// `sum` = decay ⊙ state + update, the state after a segment, rounded once.
/// Undefined: state 0, decay 1. `sum` may be the state.
void compose(at::Tensor sum, const at::Tensor& state, const at::Tensor& decay,
             const at::Tensor& update);

}  // namespace ringweave::linear_attention
